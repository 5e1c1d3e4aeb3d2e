def write_for(module, v): pass
