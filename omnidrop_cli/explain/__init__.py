"""Pictures of what pruning kept: an HTML page, a video with dropped patches darkened, and a contact sheet."""
