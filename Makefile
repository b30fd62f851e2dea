# make video PROMPT="..." OUT=clip.mp4    a clip from a text, with the bundled model
# make test                               lint and tests
# make lint, make setup                   the parts; setup happens by itself, once

PROMPT ?= a red circle moves left on a sky background
OUT ?= clip.mp4

# Texts reach the shell through the environment and unexpanded, so quotes and dollars in them survive.
override PROMPT := $(value PROMPT)
override OUT := $(value OUT)
export PROMPT OUT

.PHONY: setup video lint test

setup: .venv/.installed

video: .venv/.installed
	.venv/bin/python -m sora_core generate --out "$$OUT" -- "$$PROMPT"

lint: .venv/.installed
	.venv/bin/ruff check .

test: lint
	.venv/bin/pytest -n 2 --dist loadfile

.venv/.installed: requirements.txt requirements-dev.txt
	@for python in $(PYTHON) python3.11 python3; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "Setting up .venv with $$python (once; some minutes)"; exec $$python -m venv .venv; \
	    fi; \
	done; \
	echo "No Python 3.11 or newer found as python3.11 or python3." \
	    "Install one, or name it: make setup PYTHON=/path/to/python" >&2; exit 1
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
