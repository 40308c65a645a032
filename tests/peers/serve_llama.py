"""llama.cpp's own server inside of xllamacpp: `python serve_llama.py MODEL MMPROJ PORT KEY`. Uses nothing of ours."""

import sys
import time

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path, params.mmproj.path = sys.argv[1:3]
params.hostnames, params.port = ["127.0.0.1"], int(sys.argv[3])
params.api_keys = [sys.argv[4]]
params.n_parallel, params.n_ctx = 4, 16_384
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # beside other tests
server = xllamacpp.Server(params)
while True:
    time.sleep(3600)
