"""Training of the bundled models from nothing: `python -m fslab.mini.train --out FOLDER`."""
