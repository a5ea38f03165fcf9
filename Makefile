# oneshot's commands. Each sets up what it needs in .venv and is quick the second time:
# the two stamps below are remade only when pyproject.toml or constraints.txt changed.

# Whether this machine has an NVIDIA GPU, which serving then uses; 1 or 0 decides by hand.
GPU ?= $(shell { nvidia-smi -L 2>/dev/null | grep -q GPU || [ -e /dev/nvidia0 ]; } && echo 1 || echo 0)
PYTHON ?= $(shell command -v python3.11 || echo python3)
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
INSTALL := $(PY) -m pip install -qq --constraint constraints.txt

# Another project's environment stays out of ours.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_TARGET PIP_PREFIX PIP_ROOT
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Complete, made in this very folder (scripts hold its path), and its interpreter still runs?
usable := $(shell [ "$$(cat $(VENV)/.home 2>/dev/null)" = "$$(pwd -P)" ] && $(PY) -E -c pass 2>/dev/null && echo yes)
ifneq ($(usable),yes)
.PHONY: $(VENV)/.home
endif

.PHONY: help serve test test-ray lint docs client bench bench-omniglot bench-decisions bench-reliability sbom constraints clean
.DEFAULT_GOAL := help

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '%-24s %s\n' "$$name" "$$text"; done
	@echo "  Options of the program behind a command: make serve ARGS=\"--port 9000\". Another Python: PYTHON=/path/to/python3."

serve: $(VENV)/.$(if $(filter 1,$(GPU)),gpu,serve) ## set up and serve on http://127.0.0.1:8000; PyTorch only where there is an NVIDIA GPU (GPU=1|0 decides)
	@exec $(VENV)/bin/oneshot serve $(ARGS)

test: $(VENV)/.test ## set up and run the tests (the slow ones: make test ARGS="-m slow")
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist worksteal $(ARGS)

test-ray: ## the tests on a Ray cluster, in an environment of their own (Linux; six minutes and 1.5 GB)
	@[ -d .venv-ray ] || "$(PYTHON)" -m venv .venv-ray
	@.venv-ray/bin/python -m pip install -qq --constraint constraints.txt -e ".[train,postgres,ray,dev]"
	@.venv-ray/bin/python -m pytest -m "slow or not slow" tests/on_ray $(ARGS)

lint: $(VENV)/.test ## ruff, its formatter as a check, and mypy strict
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

bench-omniglot: $(VENV)/.test ## 20-way one-shot accuracy on Omniglot's official runs, over HTTP (needs ONESHOT_DATASETS)
	@$(PY) -m benchmarks.omniglot_http --start $(ARGS)

bench-decisions: $(VENV)/.test ## whether "same" and "unknown" can be trusted; writes docs/decisions.md (needs ONESHOT_DATASETS)
	@$(PY) -m benchmarks.decisions $(ARGS)

bench-reliability: $(VENV)/.test ## run every proof of reliability (an hour and a half); writes docs/reliability.md
	@RELIABILITY_JSON=docs/reliability.json $(PY) -m pytest -m "slow or not slow" tests/test_container.py \
		tests/app/api/test_hostile_uploads.py tests/app/api/test_api_fuzz.py tests/app/server/test_shutdown.py \
		tests/app/api/test_http_machine.py tests/app/api/test_corpus.py tests/test_cluster.py
	@RELIABILITY_JSON=docs/reliability.json $(PY) -m benchmarks.faults
	@RELIABILITY_JSON=docs/reliability.json $(PY) -m benchmarks.faults --store postgres --kills 40
	@RELIABILITY_JSON=docs/reliability.json $(PY) -m benchmarks.siege
	@RELIABILITY_JSON=docs/reliability.json $(PY) -m benchmarks.soak $(ARGS)
	@$(PY) -m benchmarks.reliability

bench: $(VENV)/.test ## this service and its peers on this machine; writes docs/benchmarks.md (needs wrk, ONESHOT_DATASETS)
	@command -v wrk >/dev/null || { echo "make bench needs wrk; on Debian and Ubuntu: apt-get install wrk" >&2; exit 1; }
	@[ -d .venv-peers ] || "$(PYTHON)" -m venv .venv-peers
	@.venv-peers/bin/python -m pip install -qq -r benchmarks/peers/requirements.txt
	@$(PY) -m benchmarks.peers $(ARGS)

docs: $(VENV)/.docs ## build the documentation as a site in site/
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build -q
	@echo "site/index.html is ready."

client: $(VENV)/.test ## generate the synchronous Python client from the asynchronous one
	@$(PY) client/generate_sync.py

sbom: ## write sbom.json, a CycloneDX list of all that serving installs (into an environment of its own)
	@"$(PYTHON)" -m venv --clear .venv-sbom
	@.venv-sbom/bin/python -m pip install -qq --no-compile --constraint constraints.txt .
	@"$(PYTHON)" -m venv --clear .venv-tools && .venv-tools/bin/python -m pip install -qq "$$(grep '^cyclonedx-bom==' .ci/tools.txt)"
	@.venv-tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.json .venv-sbom/bin/python
	@rm -rf .venv-sbom
	@echo "sbom.json is written."

constraints: ## resolve every dependency anew (torch excepted) and rewrite constraints.txt
	@"$(PYTHON)" -m venv --clear .venv-constraints
	@.venv-constraints/bin/python -m pip install -qq "$$(grep '^torch==' constraints.txt)" -e ".[train,otel,postgres,ray,dev,docs]"
	@{ sed -n '/^#/p' constraints.txt; \
		.venv-constraints/bin/python -m pip freeze --all --exclude-editable --exclude pip | sed 's/^\(torch==[^+]*\)+.*/\1/'; \
		} >constraints.new
	@mv constraints.new constraints.txt
	@rm -rf .venv-constraints
	@echo "constraints.txt is rewritten; see the difference with git diff, then make test."

clean: ## remove the environment, caches and build leftovers (never your data)
	@rm -rf $(VENV) .venv-constraints .venv-tools .venv-ray build dist ./*.egg-info client/build client/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage site
	@find app client model training testing tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.home:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "oneshot needs Python 3.11 or newer, and '$(PYTHON)' is none. Name yours: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' comes without venv or pip; on Debian and Ubuntu, install the package python3-venv." >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV)
	@pwd -P >$(VENV)/.home

$(VENV)/.serve: pyproject.toml constraints.txt $(VENV)/.home
	@echo "Installing what serving needs into $(VENV) (once) ..."
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.gpu: pyproject.toml constraints.txt $(VENV)/.home
	@echo "Installing what serving on a GPU needs into $(VENV) (once; PyTorch makes it a large download) ..."
	@$(INSTALL) -e ".[gpu]"
	@touch $(VENV)/.serve $@

$(VENV)/.test: pyproject.toml constraints.txt $(VENV)/.home
	@echo "Installing what the tests need into $(VENV) (once; PyTorch makes it a large download) ..."
	@$(INSTALL) -e ".[train,otel,postgres,dev]"
	@touch $(VENV)/.serve $@

$(VENV)/.docs: pyproject.toml constraints.txt $(VENV)/.home
	@echo "Installing what the documentation's site needs into $(VENV) ..."
	@$(INSTALL) -e ".[docs]"
	@touch $(VENV)/.serve $@
