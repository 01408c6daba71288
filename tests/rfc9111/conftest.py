"""What has to happen before the tests are imported."""

from hypothesis import HealthCheck, settings

# How long an example takes is no property of the law, and a busy machine takes longer.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
