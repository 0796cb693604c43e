# Every target sets up what it needs on a machine that has Python >= 3.11 (with venv and pip), make and git.

PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
# Two processes of tests, each with files of its own: what tests of a file share, as a finished study or a browser, is made once.
BY_TWO := -n 2 --dist loadfile --no-loadscope-reorder
# The exact versions that the results were made with; elsewhere the ranges of pyproject.toml.
LOCK := $(shell $(PYTHON) -c "import platform, sys; print('-c requirements.lock' if sys.version_info[:2] == (3, 11) and \
	(platform.system(), platform.machine()) == ('Linux', 'x86_64') else '')" 2>/dev/null)

.PHONY: help play study site test test-fast test-slow mutants bench bench-gpu lab notebooks pages lint clean

help:
	@echo "make play       environment, then a trained network in your browser: fade its branch"
	@echo "make study      environment, then the quick study, then where its report is"
	@echo "make site       environment, then the course as a folder that opens by double click: site/index.html"
	@echo "make test       environment, then all tests but the slow ones"
	@echo "make test-fast  environment, then the tests that take little: a minute"
	@echo "make test-slow  environment, then the slow tests"
	@echo "make mutants    environment, then which small changes to the code no test notices"
	@echo "make bench      environment, then how fast this is against the usual recipe, into docs/benchmarks.md; ALL=1: a whole study too"
	@echo "make bench-gpu  the same for what needs CUDA"
	@echo "make lab        environment, then JupyterLab on notebooks/"
	@echo "make notebooks  build the notebooks from their sources"
	@echo "make pages      run every page as it is, and write what it took into notebooks/times.json"
	@echo "make clean      remove the environment (the store of finished runs stays)"

.venv/ready: pyproject.toml requirements.lock
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python >= 3.11 is needed, this is ' + sys.version.split()[0] + '; name another with make PYTHON=python3.11')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q $(LOCK) $(PIP_ARGS) -e ".[test]"
	@touch $@

play: .venv/ready
	@mkdir -p build
	@$(BIN)/python -m reducenet.course.live fade build/fade.html
	@$(BIN)/python -m webbrowser -t "file://$(CURDIR)/build/fade.html" >/dev/null || true

study: .venv/ready
	@$(BIN)/reducenet run quick
	@$(BIN)/reducenet report quick

site: .venv/ready
	@$(BIN)/python -m reducenet.course.site site

test: .venv/ready
	$(BIN)/python -m pytest $(BY_TWO)

test-fast: .venv/ready
	$(BIN)/python -m pytest $(BY_TWO) -m "not slow and not engine and not long"

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

mutants: .venv/ready
	$(BIN)/python tests/mutate.py

bench: .venv/ready
	@$(BIN)/python -m benchmarks $(if $(ALL),--all)

bench-gpu: .venv/ready
	@$(BIN)/python -m benchmarks --gpu

lab: .venv/ready
	$(BIN)/jupyter lab --notebook-dir=. notebooks/00_start_here.ipynb

notebooks: .venv/ready
	$(BIN)/python notebooks/build.py

pages: .venv/ready
	$(BIN)/python notebooks/build.py --time

lint: .venv/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

clean:
	rm -rf .venv build *.egg-info
