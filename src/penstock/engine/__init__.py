"""A decoder-only transformer and its inference loop: encode, forward pass, softmax, sample, append, until a stop.

Everything is read from ordinary Hugging Face model folders and computed with NumPy. The package imports nothing of the
rest of the project and could be released alone; it knows no request, no price and no network. Importing this module
loads nothing: the parts are imported by name, so that a gateway that never calls the local model never loads NumPy.
"""
