from mnemoscope.cli import main

main()
