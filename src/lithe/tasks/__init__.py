"""Ready-made uses: what lies between a picture, a sound or a table and the tensors of a model.

`media` decodes files, `fitting` makes a tensor of what was decoded, `answers` reads class scores.
"""
