"""Frame attention against its equations, written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fer_core.models.attention import FrameAttention

D, K, N = 7, 6, 5


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture(params=[False, True], ids=["self", "self + relation"])
def net(request) -> FrameAttention:
    torch.manual_seed(0)
    return FrameAttention(D, K, relation=request.param).double().eval()


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(3, N, D)))


def by_hand(net: FrameAttention, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and frame weights of one clip's (n, d) frames, a frame at a time."""
    p = {name: value.numpy() for name, value in net.state_dict().items()}
    alpha = [sigmoid(p["alpha.weight"][0] @ fi + p["alpha.bias"][0]) for fi in f]
    clip = sum(a * fi for a, fi in zip(alpha, f, strict=True)) / sum(alpha)
    if not net.relation:
        return p["scores.weight"] @ clip + p["scores.bias"], np.array(alpha) / sum(alpha)
    g = [np.concatenate([fi, clip]) for fi in f]
    beta = [sigmoid(p["beta.weight"][0] @ gi + p["beta.bias"][0]) for gi in g]
    both = [a * b for a, b in zip(alpha, beta, strict=True)]
    joined = sum(w * gi for w, gi in zip(both, g, strict=True)) / sum(both)
    return p["scores.weight"] @ joined + p["scores.bias"], np.array(both) / sum(both)


def test_scores_and_weights_are_those_of_the_equations(net, frames):
    for clip in frames:
        scores, weights = by_hand(net, clip.numpy())
        assert np.allclose(net(clip[None])[0].detach(), scores, atol=1e-12)
        assert np.allclose(net.by_frame(clip[None])[1][0].detach(), weights, atol=1e-12)


def test_the_published_slip_would_give_other_scores(frames):
    torch.manual_seed(0)
    net = FrameAttention(D, K, relation=True).double().eval()
    p = {name: value.numpy() for name, value in net.state_dict().items()}
    f = frames[0].numpy()
    alpha = sigmoid(f @ p["alpha.weight"][0] + p["alpha.bias"])
    g = np.hstack([f, np.repeat((alpha @ f / alpha.sum())[None], N, axis=0)])
    beta = sigmoid(g @ p["beta.weight"][0] + p["beta.bias"])
    slip = p["scores.weight"] @ (alpha @ g / (alpha * beta).sum()) + p["scores.bias"]
    assert np.abs(net(frames[:1])[0].detach().numpy() - slip).max() > 0.1


def test_the_order_of_the_frames_does_not_matter(net, frames):
    assert torch.allclose(net(frames), net(frames.flip(1)))


def test_equal_frames_weigh_the_same_and_one_frame_is_the_clip(net, frames):
    same = frames[:, :1].expand(-1, 4, -1)
    assert torch.allclose(net.by_frame(same)[1], torch.full((3, 4), 0.25, dtype=torch.float64))
    assert torch.allclose(net(same), net(frames[:, :1]))


def test_dropout_is_before_q0_q1_and_w_and_nowhere_else(net, frames):
    """A clip vector is made of whole frames: only what a linear layer reads is thinned."""
    rates, whole, thinned = [], [], []

    def note(dropout, inputs, output):
        rates.append(dropout.p)
        whole.append(inputs[0][0].detach().numpy())
        thinned.append(output[0].detach().numpy())

    for layer in net.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.register_forward_hook(note)
    scores = net.train()(frames)[0].detach().numpy()
    p = {name: value.numpy() for name, value in net.state_dict().items()}
    f = frames[0].numpy()
    alpha = sigmoid(thinned[0] @ p["alpha.weight"][0] + p["alpha.bias"][0])
    clip = alpha @ f / alpha.sum()
    if net.relation:
        g = np.hstack([f, np.tile(clip, (N, 1))])
        both = alpha * sigmoid(thinned[1] @ p["beta.weight"][0] + p["beta.bias"][0])
        expected = [f, g, both @ g / both.sum()]
    else:
        expected = [f, clip]
    assert rates == ([0.5, 0.5, 0.6] if net.relation else [0.5, 0.5])
    for found, by_the_equations, after in zip(whole, expected, thinned, strict=True):
        assert np.allclose(found, by_the_equations, atol=1e-12) and (after == 0).any()
    assert np.allclose(scores, p["scores.weight"] @ thinned[-1] + p["scores.bias"], atol=1e-12)


def test_every_weight_learns(net, frames):
    net.train()
    net(frames).square().sum().backward()
    for name, value in net.named_parameters():
        assert value.grad is not None and value.grad.abs().sum() > 0, name


def test_a_clips_logits_are_the_mean_of_its_frames_by_their_weights(net, frames):
    logits, weights = net.by_frame(frames)
    assert torch.allclose(net(frames), (weights.unsqueeze(2) * logits).sum(1))
