"""Where the checkout, its sources, the stored fixtures and the helpers of the tests lie."""

from pathlib import Path

HELPERS = Path(__file__).parent
TESTS = HELPERS.parent
ROOT = TESTS.parent
FIXTURES = TESTS / "fixtures"
PACKAGE = ROOT / "src"
