"""Training data: archives of images, their labels, and how they are read and prepared."""
