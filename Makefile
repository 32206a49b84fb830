# Everything a contributor types. Each target sets up what it needs, from nothing, and does it only once.

VENV   := .venv
PY     := $(VENV)/bin/python
RUN    := $(PY) tests/run.py

.DEFAULT_GOAL := help
.PHONY: help demo test kubernetes check lint format fuzz bench bench-scale bench-simulation bench-apply bench-costs bench-flood bench-micro bench-cluster soak chaos cluster cluster-down cluster-shell cluster-kill cluster-boot pages coverage sbom lock clean programs

help: ## this list
	@echo "kubecarp: virtual IP addresses that survive the death of their host"
	@echo
	@sed -n 's/^\([a-z -]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "  make %-16s %s\n", $$1, $$2 }'

demo: $(VENV)/.base ## watch an address survive the death of its host (under a minute, root not needed)
	@tests/setup.sh programs ip unshare
	@PYTHONPATH=sidecar:tests $(PY) -m lab.demo

test: $(VENV)/.all programs ## run everything: static checks and every layer of tests (half an hour; the first time it builds Kubernetes as well)
	-@PYTHONPATH=tests $(PY) -m lab.programs
	@$(RUN)

kubernetes: $(VENV)/.all ## build what the tests need of Kubernetes, etcd and Helm, once per version, outside this folder
	@PYTHONPATH=tests $(PY) -m lab.programs

cluster: $(VENV)/.all programs ## bring up a real Kubernetes of three nodes with kubecarp in it, and leave it running (root; the first time it builds Kubernetes)
	@PYTHONPATH=tests $(PY) -m lab.programs etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl helm4
	@PYTHONPATH=operator:sidecar:tests $(PY) -m lab.cluster_command up

cluster-down: ## end it; nothing is left
	@PYTHONPATH=operator:sidecar:tests $(PY) -m lab.cluster_command down

cluster-shell: ## a shell on the client of that cluster, with kubectl and a KUBECONFIG
	@PYTHONPATH=operator:sidecar:tests $(PY) -m lab.cluster_command shell

cluster-kill cluster-boot: ## cut the power of one of its nodes, or give it back: NODE=node-1
	@PYTHONPATH=operator:sidecar:tests $(PY) -m lab.cluster_command $(@:cluster-%=%) $(NODE)

check: $(VENV)/.all ## run what takes less than a minute: static checks, unit tests and simulated clusters
	@$(RUN) static unit simulation

lint: $(VENV)/.all ## run the static checks: ruff, mypy, import-linter
	@$(RUN) static

format: $(VENV)/.all ## format the code, and repair what ruff can repair
	@$(VENV)/bin/ruff check --fix --quiet
	@$(VENV)/bin/ruff format

fuzz: $(VENV)/.all ## look for inputs that break a door, five minutes at each (ARGS="--target NAME --minutes M", --list, --replay FILE, --hypothesis)
	@PYTHONPATH=operator:sidecar:tests $(PY) -m fuzz $(ARGS)

bench: $(VENV)/.all programs ## measure outages beside keepalived and ucarp, and write docs/bench (six hours, on a quiet machine; ARGS=--quick: 15 minutes)
	@PYTHONPATH=sidecar:tests $(PY) -m bench.outages $(ARGS)

bench-scale: $(VENV)/.all ## measure the operator with 1000 groups on 100 nodes, and write docs/bench (five minutes)
	@PYTHONPATH=operator:sidecar:tests $(PY) -m bench.scale

bench-simulation: $(VENV)/.all ## simulate 1000 segments of 100 nodes and 255 groups, and write docs/bench (seven minutes)
	@PYTHONPATH=operator:sidecar:tests $(PY) -m bench.simulation

pages: $(VENV)/.all ## write the pages of docs/ that are made from code
	@$(PY) tests/pages.py
	@PYTHONPATH=operator:sidecar:tests $(PY) -m chart.generate

bench-apply: $(VENV)/.all ## measure the time from kubectl apply to an answer, and write docs/bench (two minutes)
	@PYTHONPATH=operator:sidecar:tests $(PY) -m bench.apply

bench-costs: $(VENV)/.all ## measure what a sidecar costs: processor, memory, packets, and write docs/bench (a quarter of an hour)
	@PYTHONPATH=sidecar:tests $(PY) -m bench.load

bench-flood: $(VENV)/.all programs ## flood members with forged adverts, and write docs/bench (a minute)
	@PYTHONPATH=sidecar:tests $(PY) -m bench.flood

bench-micro: $(VENV)/.all ## measure the packet path and the engine alone, and write docs/bench (seconds)
	@PYTHONPATH=sidecar:tests $(PY) -m bench.micro

bench-cluster: $(VENV)/.all programs ## measure what faults of a real cluster cost, and write docs/bench (an hour; ARGS=--beside: MetalLB and kube-vip as well, two hours)
	@PYTHONPATH=operator:sidecar:tests $(PY) -m bench.cluster $(ARGS)

soak: $(VENV)/.all programs ## hours of failovers: nothing may grow; writes docs/bench (ARGS="--hours H --hosts N --output DIR"; default: one hour)
	@PYTHONPATH=sidecar:tests $(PY) -m bench.soak $(ARGS)

chaos: $(VENV)/.all programs ## random faults on real sidecars, and a checker that reads the wire (ARGS="--seed N --minutes M --replay SEED:ROUND"; default: ten minutes)
	@PYTHONPATH=sidecar:tests $(PY) -m chaos.run $(ARGS)

coverage: $(VENV)/.all ## show which lines and branches the unit tests do not reach
	@$(VENV)/bin/coverage run -m pytest -q tests/unit
	@$(VENV)/bin/coverage report

sbom: $(VENV)/.all ## write what is in the image, as CycloneDX, to build/sbom.cdx.json (root; the first time it builds the image)
	@tests/setup.sh programs buildah mmdebstrap
	@PYTHONPATH=operator:sidecar:tests $(PY) -m lab.sbom

lock: ## write requirements.lock again after a change of dependencies (needs uv)
	@uv pip compile --quiet --universal --generate-hashes --all-extras --python-version 3.11 \
		--no-header --no-emit-index-url --output-file requirements.lock pyproject.toml

clean: ## remove everything that the other targets made
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage build dist
	@find operator sidecar tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

programs:
	@tests/setup.sh programs ip unshare tc ping tcpdump nft ps mkfs.ext4 ucarp keepalived promtool \
		buildah mmdebstrap catatonit containerd runc /usr/lib/cni/ptp

$(VENV)/.base: requirements.lock tests/setup.sh
	@tests/setup.sh base $(VENV)

$(VENV)/.all: requirements.lock pyproject.toml tests/setup.sh
	@tests/setup.sh all $(VENV)
