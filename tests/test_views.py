"""Views: what each number does to an image, and that the numbers can be sliced."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pkg import data, views

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (6, 9, 12, 3), dtype=np.uint8)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def unchanged(n):
    """Params that give every image back."""
    ones, no = torch.ones(n), torch.zeros(n, dtype=torch.bool)
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(n, 1)
    return views.Params(
        box=box, flip=no, brightness=ones, contrast=ones, saturation=ones, grey=no
    )


def as_floats(images):
    return torch.tensor(images).permute(0, 3, 1, 2) / 255


def luma(x):
    return (0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2])[:, None]


# --- what each number does -----------------------------------------------------------


def test_the_full_box_gives_the_image_back(images):
    x = views.apply(images, unchanged(6))
    # float32 coordinates of grid_sample are off by some 1e-6 of a pixel.
    torch.testing.assert_close(x, as_floats(images), atol=1e-5, rtol=0)


def test_a_flip_is_the_mirror_image(images):
    flipped = replace(unchanged(6), flip=torch.ones(6, dtype=torch.bool))
    torch.testing.assert_close(
        views.apply(images, flipped), as_floats(images).flip(3), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_box_is_the_crop_that_pillow_enlarges(images, mirrored):
    """Pillow's own bilinear resize of the same box, channel by channel in float."""
    left, top, width, height = 3, 2, 6, 5  # pixels of a 12 x 9 image
    box = torch.tensor([left / 12, top / 9, width / 12, height / 9])
    params = replace(
        unchanged(6),
        box=box.repeat(6, 1),
        flip=torch.full((6,), mirrored),
    )
    x = views.apply(images, params).numpy()

    # Cropped first: a look-up at the edge of a box may see the pixel beyond it, which
    # Pillow, given the box alone, repeats. So only the inside is compared.
    crop = images[:, top : top + height, left : left + width].astype(np.float32) / 255
    for i in range(6):
        for channel in range(3):
            plane = Image.fromarray(crop[i, :, :, channel])
            expected = np.asarray(plane.resize((12, 9), Image.Resampling.BILINEAR))
            expected = expected[:, ::-1] if mirrored else expected
            np.testing.assert_allclose(
                x[i, channel, 1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-5
            )


def test_a_box_at_the_corner_repeats_the_last_pixel(images):
    params = replace(unchanged(6), box=torch.tensor([[0, 0, 0.5, 0.5]]).repeat(6, 1))
    corner = views.apply(images, params)[:, :, 0, 0]
    torch.testing.assert_close(corner, as_floats(images)[:, :, 0, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_brightness_multiplies(images, factor):
    x = views.apply(images, replace(unchanged(6), brightness=torch.full((6,), factor)))
    expected = (factor * as_floats(images)).clamp(0, 1)
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=0)


def test_contrast_scales_the_distance_to_the_mean_grey(images):
    factor = torch.linspace(0.0, 1.4, 6)
    x = views.apply(images, replace(unchanged(6), contrast=factor))
    whole = as_floats(images)
    mean = luma(whole).mean(dim=(1, 2, 3)).reshape(6, 1, 1, 1)
    expected = (mean + factor.reshape(6, 1, 1, 1) * (whole - mean)).clamp(0, 1)
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=0)


def test_saturation_zero_is_grey(images):
    yes = torch.ones(6, dtype=torch.bool)
    dull = views.apply(images, replace(unchanged(6), saturation=torch.zeros(6)))
    grey = views.apply(images, replace(unchanged(6), grey=yes))
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 1], grey[:, 2])
    torch.testing.assert_close(dull, grey, atol=1e-6, rtol=0)
    expected = luma(as_floats(images)).expand_as(grey)
    torch.testing.assert_close(grey, expected, atol=1e-5, rtol=0)


def test_brightness_comes_before_contrast():
    """On grey 200 and 100: 1.2 x first is clipped nowhere; the mean then is 180."""
    image = np.array([[[[200] * 3, [100] * 3]]], dtype=np.uint8)
    params = replace(
        unchanged(1), brightness=torch.tensor([1.2]), contrast=torch.tensor([0.5])
    )
    x = views.apply(image, params)[0, 0, 0] * 255
    torch.testing.assert_close(x, torch.tensor([210.0, 150.0]), atol=1e-2, rtol=0)


# --- the draw ------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(views.RECIPES))
def test_a_draw_keeps_to_its_recipe(name, generator):
    recipe = views.RECIPES[name]
    params = views.draw(20_000, recipe, generator)
    left, top, width, height = params.box.unbind(1)
    assert min(left.min(), top.min()) >= 0
    # Left and width are rounded to float32 one after the other.
    assert max((left + width).max(), (top + height).max()) <= 1 + 1e-6
    area, ratio = width * height, width / height
    assert area.max() <= recipe.scale[1] + 1e-6
    assert ratio.min() >= recipe.ratio[0] - 1e-5
    assert ratio.max() <= recipe.ratio[1] + 1e-5
    for strength in ("brightness", "contrast", "saturation"):
        factor, b = getattr(params, strength), getattr(recipe, strength)
        assert (factor - 1).abs().max() <= b + 1e-6
        # Four standard deviations of a share of 20,000 are at most .015.
        assert abs((factor != 1).float().mean() - recipe.jitter) < 0.015
    assert abs(params.flip.float().mean() - recipe.flip) < 0.015
    assert abs(params.grey.float().mean() - recipe.grey) < 0.015


def test_crops_that_fit_have_uniform_area(generator):
    recipe = views.Recipe(scale=(0.2, 0.5))  # at ratio 4/3 even .5 fits
    box = views.draw(20_000, recipe, generator).box
    area = (box[:, 2] * box[:, 3]).sort().values
    uniform = torch.linspace(0.2, 0.5, 20_000)
    # Kolmogorov-Smirnov: 1.95 / sqrt(n) of the range has probability 1e-3.
    assert (area - uniform).abs().max() < 0.3 * 1.95 / 20_000**0.5


def test_the_same_seed_draws_the_same_views_and_a_generator_moves_on(images):
    x, x_prime = views.pair(images, "strong", generator=torch.Generator())
    y, y_prime = views.pair(images, "strong", generator=torch.Generator())
    assert torch.equal(x, y) and torch.equal(x_prime, y_prime)
    assert not torch.equal(x, x_prime)


def test_recipes_of_one_seed_share_their_crops_when_their_ranges_agree():
    coloured, plain = views.RECIPES["standard"], views.Recipe(jitter=0.0, grey=0.0)
    first = views.draw(9, coloured, torch.Generator().manual_seed(1))
    second = views.draw(9, plain, torch.Generator().manual_seed(1))
    assert torch.equal(first.box, second.box)


def test_a_slice_of_the_draw_gives_that_slice_of_the_views(rng, generator):
    images = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    params = views.draw(40, "standard", generator)
    whole = views.apply(images, params)
    assert len(params[7:20]) == 13
    for rows in (slice(0, 1), slice(7, 20), slice(20, 40)):
        assert torch.equal(views.apply(images[rows], params[rows]), whole[rows])


def test_tensors_and_arrays_give_the_same_views(images, generator):
    params = views.draw(6, "strong", generator)
    assert torch.equal(
        views.apply(images, params), views.apply(torch.tensor(images), params)
    )


@cuda
@pytest.mark.gpu
def test_another_device_gives_the_same_views(images, generator):
    params = views.draw(6, "strong", generator)
    x = views.apply(torch.tensor(images, device="cuda"), params)
    assert x.is_cuda
    # Bilinear weights in float32, summed in another order.
    torch.testing.assert_close(x.cpu(), views.apply(images, params), atol=1e-5, rtol=0)


def test_views_are_float32_between_zero_and_one(images, generator):
    x, x_prime = views.pair(images, "strong", generator=generator)
    for view in (x, x_prime):
        assert view.shape == (6, 3, 9, 12) and view.dtype == torch.float32
        assert view.min() >= 0 and view.max() <= 1


# --- pairs for the theory ------------------------------------------------------------


def test_flat_pairs_are_the_views_standardised_channel_by_channel(images):
    x, x_prime = views.flat_pairs(images, "standard", seed=4)
    assert x.shape == x_prime.shape == (6, 3 * 9 * 12)
    assert x.dtype == x_prime.dtype == np.float64
    both = np.concatenate([x, x_prime]).reshape(12, 3, -1)
    np.testing.assert_allclose(both.mean(axis=(0, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(both.std(axis=(0, 2)), 1, rtol=1e-12)

    generator = torch.Generator().manual_seed(4)
    view, _ = views.pair(images, "standard", generator=generator)
    for channel in range(3):
        flat = x.reshape(6, 3, -1)[:, channel].ravel()
        raw = view[:, channel].double().numpy().ravel()
        slope, offset = np.polyfit(raw, flat, 1)
        assert slope > 0
        np.testing.assert_allclose(flat, slope * raw + offset, atol=1e-9)


def test_negative_eigenvalues_are_the_noise_of_a_small_sample():
    """Gamma of a population is positive semi-definite; of a sample it never is."""

    def depth(n):
        images = data.load("photos", n=n, size=8, seed=1).x
        x, x_prime = views.flat_pairs(images, "standard", seed=1)
        Gamma = (x.T @ x_prime + x_prime.T @ x) / (2 * n)
        eigenvalues = np.linalg.eigvalsh(Gamma)
        assert eigenvalues[0] < 0
        return -eigenvalues[0] / eigenvalues[-1]

    few, many = depth(60), depth(960)
    # Noise falls like 1 / sqrt(n): a quarter is expected. Over seeds 0 to 4 the depth
    # was .03 to .14 with few images and .009 to .022 with many.
    assert many < few / 2
    assert few < 0.3


# --- refusals ------------------------------------------------------------------------

GENERATOR = torch.Generator()
PIXELS = np.zeros((2, 4, 4, 3), dtype=np.uint8)

REFUSALS = [
    (lambda: views.draw(0, "weak", GENERATOR), "`n` must be at least 1"),
    (
        lambda: views.draw(2, "weka", GENERATOR),
        "`recipe` is 'weka'.*did you mean 'weak'",
    ),
    (lambda: views.apply(PIXELS / 255, unchanged(2)), "`images` .* uint8.*float64"),
    (lambda: views.apply(PIXELS[0], unchanged(2)), r"`images` .*\(4, 4, 3\)"),
    (lambda: views.apply(PIXELS[..., :1], unchanged(2)), r"`images` .*\(2, 4, 4, 1\)"),
    (lambda: views.apply(PIXELS[:0], unchanged(0)), "`images` .* n >= 1"),
    (lambda: views.apply(PIXELS, unchanged(3)), "`params` .* 3 rows for 2 images"),
    (lambda: views.flat_pairs(PIXELS, "weak", seed=0), "`images` .* never varies"),
    (lambda: views.flat_pairs(PIXELS, "weak", seed=-1), "`seed` must be at least 0"),
    (lambda: views.Recipe(scale=(0.0, 1.0)), "`scale` must be finite and positive"),
    (lambda: views.Recipe(scale=(0.5, 1.5)), "`scale` must be .* high <= 1"),
    (lambda: views.Recipe(scale=(0.5, 0.2)), "`scale` must be .* low <= high"),
    (lambda: views.Recipe(ratio=(2.0, 1.0)), "`ratio` must be .* low <= high"),
    (lambda: views.Recipe(ratio=(1.0,)), "`ratio` must be .* low <= high"),
    (lambda: views.Recipe(flip=1.5), "`flip` must be between 0 and 1; got 1.5"),
    (lambda: views.Recipe(grey=float("nan")), "`grey` must be between 0 and 1"),
]


@pytest.mark.parametrize(("call", "message"), REFUSALS)
@pytest.mark.usefixtures("as_a_user")
def test_what_cannot_be_viewed_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@cuda
@pytest.mark.gpu
def test_a_generator_on_another_device_is_refused():
    with pytest.raises(ValueError, match="`generator` must be on the CPU"):
        views.draw(2, "weak", torch.Generator("cuda"))
