"""The grid: random cases of every builtin operator in every type, by the official runtime and in every target.

cells      which cells there are: derived from the operators' classes
draw       random shapes, quantizations, values
families   what a random case of each operator looks like, a file a family
check      cases -> findings: evaluate against the official kernel sets, loops, C and LLVM against evaluate
run        all cells in processes of their own; the log; the summary (`python -m tests.grid`)
document   docs/operators.md from the findings
"""
