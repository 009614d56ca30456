"""`python -m supernet` is the command `supernet`, for launchers that start modules: `torchrun -m supernet ...`."""

from supernet.experiments.pipeline import main  # type: ignore[import-not-found]

if __name__ == "__main__":
    main()
