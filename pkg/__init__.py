"""Self-supervised learning, one dimension at a time: solvers and trainers.

The rooms, in the order in which values flow through them:

``data``      image sets as bytes, with their provenance
``views``     two random views of each image
``kernels``   kernels of images: linear, RBF, Laplace, and infinitely wide networks
``nets``      networks: fully connected, convolutional, ResNets; small starts
``losses``    losses of two batches of embeddings
``dynamics``  the exact solution of the linear Barlow Twins model
``flow``      the same model integrated numerically; the independent witness
``kpca``      contrastive kernel PCA: the same solution for any kernel
``ntk``       the neural tangent kernel of a torch module
``optim``     learning rates from the kernel that moves; a push for late modes
``track``     spectra of the embeddings, and a probe, while a network trains
``checkpoint``, ``distributed``   a run that survives a kill, and that many share
``trainer``   training of a network on pairs of views
``spectra``   conventions for eigenvalues and subspaces
``record``    ``Trajectory``, the one result type; the records that ship with the book
``recipes``   what made each record; ``python -m pkg.recipes list``
``modes``     the axes in which an embedding opened, what they mean and are good for
``relatives`` the same staircase elsewhere: regression, deep linear networks, words
``plots``     static figures
``widgets``   figures that move, with a kernel or without

Importing ``pkg`` loads none of them: ``from pkg import dynamics`` loads one.
"""

__version__ = "0.1.0"
