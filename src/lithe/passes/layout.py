def arrange_layouts(graph): pass
