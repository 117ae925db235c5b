"""Training of CREPS generators. Needs torch, numpy and pillow; tqdm and tensorboard are used where installed."""
