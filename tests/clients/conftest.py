"""What has to happen before the clients' tests are imported."""

import pytest

pytest.register_assert_rewrite("tests.clients.behaviours")
