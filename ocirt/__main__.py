"""python -m ocirt"""

from ocirt.cli import main

if __name__ == "__main__":
    main()
