# Each target is one line that a developer could type. `make demo` and `make test` do all set-up they need.
PY := .venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1

demo: .venv/ready ; $(PY) -m broker demo
# Two at a time: the inside of the house, and its edges (sources, faults, the whole broker).
INSIDE := tests/broker tests/detectors tests/llm tests/normalizers tests/schemas tests/training
test: .venv/ready ; $(MAKE) --no-print-directory -k -j2 test-inside test-edges
test-inside: .venv/ready ; $(PY) -m pytest $(INSIDE)
test-edges: .venv/ready ; $(PY) -m pytest $(INSIDE:%=--ignore=%)
check: lint types test
lint: .venv/ready ; .venv/bin/ruff check . && .venv/bin/ruff format --check .
types: .venv/ready ; .venv/bin/mypy
bench: .venv/ready ; $(PY) -m bench
bench-detect: .venv/ready ; .venv/bin/pip install -q -c requirements.lock -e '.[bench]' && $(PY) -m bench detect
faults: .venv/ready ; $(PY) -m tests.faults
fuzz: .venv/ready ; .venv/bin/pip install -q -c requirements.lock -e '.[fuzz]' && $(PY) -m tests.fuzz
docs: .venv/ready ; $(PY) -m broker config reference > docs/configuration.md
# The built-in model from nothing, seeded: an hour or two on one core. The same machine and versions give the same bytes.
MODEL := build/model
model: .venv/ready
	.venv/bin/pip install -q -c requirements.lock -e '.[train,score]'
	rm -rf $(MODEL) && $(PY) -m training.corpus $(MODEL) && $(PY) -m training.train $(MODEL) --cut 4050 4600 --cut 4230 4430 && $(PY) -m training.export $(MODEL)
lock: .venv/ready ; .venv/bin/pip freeze --exclude-editable > requirements.lock

# llama-cpp-python is compiled here once (about six minutes on two cores); pip keeps its wheel for the next time.
# Without Intel's matrix tiles, where the compiler knows them: some hypervisors offer them and end the process that uses them.
AMX := $(shell $(CC) -mno-amx-tile -E -x c /dev/null >/dev/null 2>&1 && echo -mno-amx-tile -mno-amx-int8 -mno-amx-bf16)
# deploy/llama-cpp.sh builds it for an NVIDIA GPU where driver and nvcc are both there, and says so; CUDA=0 or CUDA=1 overrides.
.venv/ready: export CFLAGS := $(AMX)
.venv/ready: export CXXFLAGS := $(AMX)
.venv/ready: pyproject.toml requirements.lock ; python3 -m venv .venv && sh deploy/llama-cpp.sh .venv/bin/python && .venv/bin/pip install -q -c requirements.lock -e '.[llm,openai,demo,dev,score]' && touch $@

.PHONY: demo test test-inside test-edges check lint types bench bench-detect faults fuzz docs model lock
