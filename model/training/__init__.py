"""Training of CREPS generators. Needs torch, numpy, safetensors and pillow; tqdm and tensorboard are optional."""
