# Each target is one line that a developer could type. `make demo` and `make test` do all set-up they need.
PY := .venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1

demo: .venv/ready ; $(PY) -m broker demo
test: .venv/ready ; $(PY) -m pytest
check: lint types test
lint: .venv/ready ; .venv/bin/ruff check . && .venv/bin/ruff format --check .
types: .venv/ready ; .venv/bin/mypy
bench: .venv/ready ; $(PY) -m bench
bench-detect: .venv/ready ; .venv/bin/pip install -q -c requirements.lock -e '.[bench]' && $(PY) -m bench detect
faults: .venv/ready ; $(PY) -m tests.faults
fuzz: .venv/ready ; .venv/bin/pip install -q -c requirements.lock -e '.[fuzz]' && $(PY) -m tests.fuzz
docs: .venv/ready ; $(PY) -m broker config reference > docs/configuration.md
lock: .venv/ready ; .venv/bin/pip freeze --exclude-editable > requirements.lock

# llama-cpp-python is compiled here once (about six minutes on two cores); pip keeps its wheel for the next time.
# Without Intel's matrix tiles, where the compiler knows them: some hypervisors offer them and end the process that uses them.
AMX := $(shell $(CC) -mno-amx-tile -E -x c /dev/null >/dev/null 2>&1 && echo -mno-amx-tile -mno-amx-int8 -mno-amx-bf16)
.venv/ready: pyproject.toml requirements.lock ; python3 -m venv .venv && CFLAGS="$(AMX)" CXXFLAGS="$(AMX)" .venv/bin/pip install -q -c requirements.lock -e '.[llm,demo,dev]' && touch $@

.PHONY: demo test check lint types bench bench-detect faults fuzz docs lock
