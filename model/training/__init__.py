"""Training of CREPS generators. Needs torch, numpy, safetensors and pillow; uses tqdm and tensorboard where installed."""
