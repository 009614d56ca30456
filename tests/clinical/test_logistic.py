import numpy as np
import pytest
from scipy.special import expit, log_expit, logsumexp, ndtri

from supernet.clinical.logistic import log_sigmoid, log_sum_exp, normal_quantile, sigmoid


def test_as_scipy():
    values = np.concatenate((np.linspace(-40, 40, 81), [-800.0, 800.0]))
    assert sigmoid(values) == pytest.approx(expit(values), rel=1e-14)
    assert log_sigmoid(values) == pytest.approx(log_expit(values), rel=1e-14)
    logits = np.random.default_rng(0).normal(size=(20, 5)) * 300
    assert log_sum_exp(logits) == pytest.approx(logsumexp(logits, axis=1), rel=1e-14)
    assert normal_quantile(0.95) == pytest.approx(ndtri(0.975), rel=1e-14)
