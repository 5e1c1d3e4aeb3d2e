def update(found):
    pass
