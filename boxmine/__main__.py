"""`python -m boxmine`: the command line, which is the same as the console script `boxmine`."""

from flows.cli.application import main

if __name__ == "__main__":
    main()
