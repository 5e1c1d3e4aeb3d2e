from tests.golden import golden as golden
from tests.golden import pytest_addoption as pytest_addoption
