"""The server: app.py answers HTTP, batcher.py groups requests, swap.py follows the champion, server.py runs it all."""
