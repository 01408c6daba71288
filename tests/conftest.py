"""What has to happen before the tests are imported."""

import pytest

pytest.register_assert_rewrite("stillfresh.testing.conformance")
