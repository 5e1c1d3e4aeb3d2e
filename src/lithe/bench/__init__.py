"""Measuring: Lithe against other runtimes, start-up, memory, and every step of a program against this machine's limits.

peers      the runtimes that can be compared, as data
turns      interleaved timing in one process, outputs compared first
fresh      start-up and peak memory, each in a process of its own
layers     every step of a compiled model: time, work, and the least time that this machine could need
work       the work in a kernel, counted in its loops
peaks      what this machine can do at most, measured
machine    what a result is about: processor, versions, commit
dashboard  a page of charts from result files
"""
