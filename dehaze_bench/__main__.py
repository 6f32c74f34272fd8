"""`python -m dehaze_bench` is `dehaze-bench`."""

from dehaze_bench.cli import main

if __name__ == "__main__":
    main()
