"""The same as tests/bench/preprocess_bench.cpp with Pillow and Transformers' CLIPImageProcessor (the slow one, whose pixels
facet has), on the files that it has drawn; one process. Images a second of processor time.

usage: bench_pillow.py DIRECTORY [SECONDS]
"""
import os
import sys
import time
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
for threads in "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS":
    os.environ[threads] = "1"
warnings.simplefilter("ignore")

from PIL import Image
from transformers import CLIPImageProcessor


def rate(files, processor, seconds):
    def all_of_them():
        for file in files:
            processor(Image.open(file).convert("RGB"), return_tensors="np")

    all_of_them()  # warm
    images = 0
    start = time.process_time()
    while time.process_time() < start + seconds:
        all_of_them()
        images += len(files)
    return images / (time.process_time() - start)


def main():
    directory = sys.argv[1]
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 1
    for size in "640x480", "2048x1536":
        folder = f"{directory}/{size}"
        files = [f"{folder}/{name}" for name in sorted(os.listdir(folder))]
        print(f"pillow_{size} {rate(files, CLIPImageProcessor(), seconds):.1f}", flush=True)


main()
