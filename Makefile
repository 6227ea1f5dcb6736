# Each target sets up .venv from requirements.txt by itself. Python 3.11 and make are all that must be there.
PYTHON ?= python3.11
BIN := .venv/bin
ERA5_LAND ?= data/era5_land.nc
SMAP ?= data/smap_l4.nc
RESULTS ?= results

RAW ?=

.PHONY: reproduce conus conus-data docs-conus paper evidence docs-results figures bench tour test test-fast defects lint clean

reproduce: .venv/installed  ## the whole study on the synthetic sample: results/
	$(BIN)/python reproduce.py

# Real SMAP L3 over the United States. The year from April 2016 is the test where it is there, else the last three months
# of the first year. The source learns on both sides of the test, and from no day that SMAP is validated or tested on.
CONUS := --era5-land data/land_model_conus.nc --smap data/smap_l3_conus.nc
CONUS_YEAR := --train 2015-05-01 2016-01-31 --val 2016-02-01 2016-03-31 --test 2016-04-01 2017-03-31 \
	--source-train 2015-04-01 2016-01-31 2017-04-01 2017-12-31
CONUS_MONTHS := --train 2015-05-01 2015-11-30 --val 2015-12-01 2015-12-31 --test 2016-01-01 2016-03-31 \
	--source-train 2015-04-01 2015-11-30 2017-04-01 2017-12-31
CONUS_SOURCE := --source-val 2018-01-01 2018-02-14 --source-test 2018-02-15 2018-03-31
CONUS_PARTS := --details --weather
CONUS_PERIODS = $(if $(shell ls data/raw/smap_conus/2016/SMAP_AM.csv 2>/dev/null),$(CONUS_YEAR),$(CONUS_MONTHS))

conus-data: .venv/installed
	$(BIN)/python data/download_smap_conus.py $(if $(RAW),--raw $(RAW))
	$(BIN)/python data/prepare_smap_conus.py

conus: conus-data  ## real SMAP L3 over the United States: results-conus/; RAW=FOLDER takes files that are there
	$(BIN)/python reproduce.py $(CONUS) $(CONUS_PERIODS) $(CONUS_SOURCE) $(CONUS_PARTS) --out results-conus/all-ages
	mkdir -p results-conus/7-days && cp -rlf results-conus/all-ages/runs results-conus/all-ages/forecasts results-conus/7-days/
	$(BIN)/python reproduce.py $(CONUS) $(CONUS_PERIODS) $(CONUS_SOURCE) $(CONUS_PARTS) --max-input-age 7 \
		--out results-conus/7-days

docs-conus: .venv/installed  ## copy what make conus has found to docs/results/conus, and fill the README's table
	$(BIN)/python -m utils.study.publish results-conus docs/results/conus \
		--figures study cells target_days weather_compact reliability --page README.md --rows 7-days

# The paper's own setting, but for its leak: its source was validated on SMAP's test year. Here the source learns from no
# day that SMAP is validated or tested on. Its own test year is scored, and nothing is learned from it. A period is cut
# to the days of the record, so that an ERA5-Land record from 2000 will do.
PAPER := --train 2015-04-01 2018-12-07 --val 2018-12-08 2019-12-07 --test 2019-12-08 2020-12-08 \
	--source-train 1980-01-01 2017-12-07 --source-val 2017-12-08 2018-12-07 --source-test 2018-12-08 2019-12-07 \
	--input-days 3 --epochs 50 --batch-size 128

paper: .venv/installed  ## the paper's setting on the real pair, with the seeds of --full: results-paper/
	$(BIN)/python reproduce.py --full $(PAPER) --era5-land $(ERA5_LAND) --smap $(SMAP) --out results-paper

# Each study first takes the runs that a finished `make reproduce` and the studies before it have, which are the same.
share = mkdir -p results-evidence/$(1) && for done in $(RESULTS) results-evidence/*; do \
	if [ -f $$done/study.json ] && [ $$done != results-evidence/$(1) ]; then cp -rlf $$done/runs results-evidence/$(1)/ || exit 1; fi; done

evidence: .venv/installed  ## what reproduce leaves out, on the synthetic sample, each a study: results-evidence/
	$(call share,matched)
	$(BIN)/python reproduce.py --matched --out results-evidence/matched
	$(call share,details)
	$(BIN)/python reproduce.py --details --matched --models convlstm compact change_net --out results-evidence/details
	$(call share,seeds)
	$(BIN)/python reproduce.py --seeds 0 1 2 3 4 --lead-days 3 --out results-evidence/seeds \
		--models cnn lstm convlstm convlstm_conv convlstm_no_relu conv3d_lstm conv_mixer compact change_net
	$(call share,worlds)
	$(BIN)/python reproduce.py --worlds 5 --controls --matched --lead-days 3 --models convlstm compact change_net \
		--out results-evidence/worlds
	$(call share,transfer)
	$(BIN)/python reproduce.py --strategies --weather --lead-days 3 --models convlstm compact change_net \
		--out results-evidence/transfer
	$(call share,ladder)
	$(BIN)/python reproduce.py --lead-days 3 --out results-evidence/ladder --models convlstm convlstm_no_relu \
		convlstm_change convlstm_pixel_change conv_mixer change_net
	$(call share,operational)
	$(BIN)/python reproduce.py --operational --models compact change_net --out results-evidence/operational

docs-results: .venv/installed  ## copy the finished studies, and a forecast from one, to docs/results
	$(BIN)/python -m utils.study.publish $(RESULTS) docs/results --figures study limit
	$(BIN)/python forecast.py $(RESULTS)/runs/finetune-SMAPtest/compact/lead*/seed0 \
		--data data/sample/smap_l4_2deg.nc --out $(RESULTS)/forecast.nc
	cp $(RESULTS)/forecast.png docs/results/
	[ ! -d results-evidence ] || $(BIN)/python -m utils.study.publish results-evidence docs/results/evidence \
		--figures study target_days transfer_gain strategies worlds controls ladder operational

figures: .venv/installed  ## draw table, figures and report again from the runs' predictions.nc, without training
	$(BIN)/python -m utils.study.report $(RESULTS)

tour: .venv/installed  ## docs/tour.md as a notebook: docs/tour.ipynb
	$(BIN)/jupytext --to notebook docs/tour.md

bench: .venv/installed  ## steps against the published ones, loader, memory and processes on this machine: results/bench.json
	$(BIN)/python benchmarks/bench.py

test: .venv/installed  ## lint and all tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: .venv/installed  ## models, windows, scores and settings alone, for daily work: about a minute on two cores
	$(BIN)/python -m pytest -n 2 tests/models tests/dataset/test_windows.py tests/scores tests/training/test_settings.py

defects: .venv/installed  ## put each defect of the published code back and see its test fail
	$(BIN)/python tests/defects.py

lint: .venv/installed
	$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/lint-imports --no-logo

.venv/installed: requirements.txt pyproject.toml
	command -v $(PYTHON) >/dev/null && $(PYTHON) -m venv .venv || python3 -m venv .venv
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

clean:
	rm -rf .venv results runs data/sample
