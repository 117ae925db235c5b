"""Motion: what the frames of a video show, from keyframes."""
