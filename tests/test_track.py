"""What each part of a network makes of images: its covariance spectra."""

import numpy as np
import pytest
import torch
from torch import nn

from pkg import nets, track

X = torch.rand(40, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net():
    return nets.demo(5, generator=torch.Generator().manual_seed(1))


def test_a_layer_spectrum_is_that_of_its_averaged_features(net):
    """Another road: run the network up to there, and take singular values."""
    found = track.layer_spectra(net, X)
    assert list(found) == [name for name, _ in net.named_children()]
    with torch.no_grad():
        until = nn.Sequential(*list(net)[:5])  # conv1, bn1, relu, layer1, layer2
        features = until(X).mean((2, 3)).double().numpy()  # (n, 32)
        z = net(X).double().numpy()
    for name, rows in (("layer2", features), ("fc", z)):
        rows = rows - rows.mean(axis=0)
        expected = np.linalg.svd(rows, compute_uv=False) ** 2 / len(X)
        # The network computes in float32.
        np.testing.assert_allclose(
            found[name], expected, rtol=1e-4, atol=1e-6 * expected[0]
        )


def test_looking_leaves_the_network_as_it_was(net):
    net = nets.demo(5, norm="batch", generator=torch.Generator().manual_seed(1))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    track.layer_spectra(net, X)
    assert net.training and not net.conv1._forward_hooks
    for name, value in net.state_dict().items():  # running statistics, too
        assert torch.equal(value, before[name])


def test_a_failing_forward_pass_leaves_no_hook_behind(net):
    with pytest.raises(ValueError, match="channels"):
        track.layer_spectra(net, X[:, :2])
    assert net.training
    assert not any(m._forward_hooks for m in net.modules())


@pytest.mark.parametrize(
    ("model", "x", "said"),
    [
        (nets.demo(4), X[:1], "`x` holds 1 images; a covariance needs two"),
        (nn.Flatten(), X, "`model` has no children to look into"),
    ],
)
def test_what_has_no_layer_spectrum_is_refused(model, x, said):
    with pytest.raises(ValueError, match=said):
        track.layer_spectra(model, x)
