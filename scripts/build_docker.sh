#!/bin/sh
# `gov image build` under the name that first users know:
#   --version NAME | --lock F  [--tag T] [--engine E] [--base IMAGE] [--torch-backend B] [--with-models] [--push] [--sbom F]
exec "$(dirname "$0")/../bin/gov" image build "$@"
