"""Views: what each number does to an image, and that the numbers can be sliced."""

import colorsys
import itertools
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps

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
    ones, zeros = torch.ones(n), torch.zeros(n)
    no = torch.zeros(n, dtype=torch.bool)
    return views.Params(
        box=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(n, 1),
        flip=no,
        **dict.fromkeys(("brightness", "contrast", "saturation"), ones),
        hue=zeros,
        order=zeros.long(),
        grey=no,
        blur=zeros,
        solarise=no,
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


def test_hue_turns_the_circle_of_hsv(images):
    """Python's own colorsys, one pixel at a time; greys, corners and ties too."""
    images[0, 0, :6] = [[7] * 3, [0] * 3, [255] * 3, [9, 9, 2], [9, 2, 9], [2, 9, 9]]
    images[0, 1, :3] = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    turn = torch.tensor([0.1, -0.1, 0.5, -0.5, 0.3, -0.02])
    x = views.apply(images, replace(unchanged(6), hue=turn)).numpy()
    for i, row, column in np.ndindex(6, 9, 12):
        hue, saturation, value = colorsys.rgb_to_hsv(*images[i, row, column] / 255)
        turned = (hue + turn[i].item()) % 1
        expected = colorsys.hsv_to_rgb(turned, saturation, value)
        # The look-up before it is right to 1e-5, and a turn magnifies up to sixfold.
        np.testing.assert_allclose(x[i, :, row, column], expected, atol=6e-5)


@pytest.mark.parametrize(("height", "reach"), [(3, 1), (32, 1), (96, 4)])
def test_blur_is_a_gaussian_cut_off_at_a_twentieth_of_the_height(rng, height, reach):
    """The kernel written out in two dimensions, pixel by pixel of a repeated border."""
    images = rng.integers(0, 256, (3, height, 25, 3), dtype=np.uint8)
    sigma = [0.1, 0.7, 2.0]
    x = views.apply(images, replace(unchanged(3), blur=torch.tensor(sigma))).numpy()
    for i in range(3):
        steps = np.arange(-reach, reach + 1)
        kernel = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * sigma[i] ** 2))
        kernel /= kernel.sum()
        wide = np.pad(images[i] / 255, [(reach,) * 2, (reach,) * 2, (0, 0)], "edge")
        expected = sum(
            weight * wide[a : a + height, b : b + 25]
            for (a, b), weight in np.ndenumerate(kernel)
        )
        np.testing.assert_allclose(x[i].transpose(1, 2, 0), expected, atol=2e-5)


def test_a_cut_kernel_blurs_less_than_its_sigma_says():
    """Recipe's docstring: at 32 pixels, a sigma of 2 acts like one of about 0.8."""
    point = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    point[0, 16, 16] = 255
    x = views.apply(point, replace(unchanged(1), blur=torch.tensor([2.0])))
    along = x[0, 0].double().sum(dim=0).numpy()  # what one axis did to the point
    place = np.arange(32)
    variance = along @ (place - 16) ** 2 / along.sum()
    assert np.sqrt(variance) == pytest.approx(0.8, abs=0.005)


def test_blur_is_near_to_the_one_that_barlow_twins_calls(rng):
    """Pillow's approximates a Gaussian by three boxes; at 224 px nothing is cut off."""
    images = data.load("photos", n=2, size=224).x
    for sigma in (0.5, 1.0, 2.0):
        x = views.apply(images, replace(unchanged(2), blur=torch.full((2,), sigma)))
        for i in range(2):
            soft = ImageFilter.GaussianBlur(sigma)
            expected = np.asarray(Image.fromarray(images[i]).filter(soft)) / 255
            difference = np.abs(x[i].numpy().transpose(1, 2, 0) - expected)
            # Two of 256 levels where most pixels change by far more.
            assert difference.mean() < 2 / 255


def test_solarise_is_the_one_that_pillow_has(images):
    images[0, 0, :4, 0] = [0, 127, 128, 255]  # both sides of its threshold
    yes = torch.ones(6, dtype=torch.bool)
    x = views.apply(images, replace(unchanged(6), solarise=yes)).numpy()
    for i in range(6):
        expected = np.asarray(ImageOps.solarize(Image.fromarray(images[i]))) / 255
        np.testing.assert_allclose(x[i].transpose(1, 2, 0), expected, atol=1e-5)


def test_blur_comes_after_grey_and_before_solarise(rng):
    """Grey and blur commute; blur and solarise do not."""
    images = rng.integers(0, 256, (2, 9, 9, 3), dtype=np.uint8)
    yes, soft = torch.ones(2, dtype=torch.bool), torch.full((2,), 1.5)
    params = replace(unchanged(2), grey=yes, blur=soft, solarise=yes)
    x = views.apply(images, params)
    blurred = views.apply(images, replace(params, solarise=~yes))
    torch.testing.assert_close(x, torch.where(blurred < 0.5, blurred, 1 - blurred))
    assert torch.equal(x[:, 0], x[:, 1])


def test_every_view_takes_its_colours_in_its_own_order(rng):
    """All 24 orders in one batch, against one operation after the other."""
    images = rng.integers(0, 256, (24, 5, 7, 3), dtype=np.uint8)
    values = {"brightness": 1.3, "contrast": 0.6, "saturation": 1.5, "hue": 0.15}
    full = {name: torch.full((24,), value) for name, value in values.items()}
    x = views.apply(images, replace(unchanged(24), order=torch.arange(24), **full))
    for i, order in enumerate(itertools.permutations(values)):
        expected = as_floats(images[i : i + 1])
        for name in order:
            expected = by_hand(name, expected, values[name]).clamp(0, 1)
        torch.testing.assert_close(x[i], expected[0], atol=6e-5, rtol=0)


def by_hand(name, x, value):
    """One change of colour as its definition reads."""
    if name == "brightness":
        return value * x
    if name == "hue":
        pixels = x[0].permute(1, 2, 0).reshape(-1, 3).double().tolist()
        turned = [((h + value) % 1, s, v) for h, s, v in map_hsv(pixels)]
        rgb = torch.tensor([colorsys.hsv_to_rgb(*hsv) for hsv in turned])
        return rgb.reshape(*x.shape[2:], 3).permute(2, 0, 1)[None]
    base = luma(x) if name == "saturation" else luma(x).mean()
    return base + value * (x - base)


def map_hsv(pixels):
    return [colorsys.rgb_to_hsv(*pixel) for pixel in pixels]


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
    assert params.hue.abs().max() <= recipe.hue + 1e-6
    share = recipe.jitter if recipe.hue else 0
    assert abs((params.hue != 0).float().mean() - share) < 0.015
    for chance in ("flip", "grey", "solarise", "blur"):
        measured = (getattr(params, chance) > 0).float().mean()
        assert abs(measured - getattr(recipe, chance)) < 0.015
    sigma = params.blur[params.blur > 0]
    if recipe.blur:
        low, high = recipe.sigma
        assert low <= sigma.min() < low + 0.1 and high - 0.1 < sigma.max() <= high
    orders = torch.bincount(params.order, minlength=24) / 20_000
    if recipe.order == "random":
        assert len(orders) == 24 and (orders - 1 / 24).abs().max() < 0.006
    else:
        assert orders[0] == 1


def test_the_two_views_of_barlow_twins_differ_in_blur_and_solarise(images):
    first, second = views.RECIPES["barlow_twins"], views.RECIPES["barlow_twins"].second
    changed = {
        f.name
        for f in fields(first)
        if getattr(first, f.name) != getattr(second, f.name)
    }
    assert changed == {"blur", "solarise", "second"}
    assert (first.blur, first.solarise) == (1.0, 0.0)
    assert (second.blur, second.solarise) == (0.1, 0.2)

    generator = torch.Generator().manual_seed(2)
    x, x_prime = views.pair(images, "barlow_twins", generator=generator)
    generator = torch.Generator().manual_seed(2)
    params = views.draw(6, first, generator), views.draw(6, second, generator)
    assert torch.equal(x, views.apply(images, params[0]))
    assert torch.equal(x_prime, views.apply(images, params[1]))
    assert bool((params[0].blur > 0).all()) and not bool(params[0].solarise.any())


def test_the_published_recipes_are_what_their_sources_say():
    """Read in the authors' repositories and, for VICReg, in appendix C.1."""
    jitter = ("brightness", "contrast", "saturation", "hue")
    published = {
        "simclr": ((0.8, 0.8, 0.8, 0.2), 0.5, 0.0),
        "simclr_cifar": ((0.4, 0.4, 0.4, 0.1), 0.0, 0.0),
        "barlow_twins": ((0.4, 0.4, 0.2, 0.1), 1.0, 0.0),
        "vicreg": ((0.4, 0.4, 0.2, 0.1), 0.5, 0.1),
    }
    for name, (strengths, blur, solarise) in published.items():
        recipe = views.RECIPES[name]
        assert tuple(getattr(recipe, field) for field in jitter) == strengths
        assert (recipe.blur, recipe.solarise) == (blur, solarise)
        assert recipe.scale == (0.08, 1.0) and recipe.ratio == (3 / 4, 4 / 3)
        assert (recipe.flip, recipe.jitter, recipe.grey) == (0.5, 0.8, 0.2)
        assert recipe.sigma == (0.1, 2.0) and recipe.order == "random"


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
    coloured, plain = views.RECIPES["simclr"], views.Recipe(scale=(0.08, 1.0), grey=0.0)
    first, second = (torch.Generator().manual_seed(1) for _ in range(2))
    for _ in range(3):  # the generators stay in step
        a, b = views.draw(9, coloured, first), views.draw(9, plain, second)
        assert torch.equal(a.box, b.box) and torch.equal(a.flip, b.flip)


def test_the_numbers_of_the_first_edition_are_what_they_were():
    """Records were made with them: the later numbers have a stream of their own."""
    generator, plain = (torch.Generator().manual_seed(3) for _ in range(2))
    for name in ("standard", "weak", "strong"):
        recipe = views.RECIPES[name]
        for _ in range(2):
            params = views.draw(50, name, generator)
            u = torch.rand((50, 10), generator=plain)
            jittered = u[:, 5] < recipe.jitter
            for column, field in (
                (6, "brightness"),
                (7, "contrast"),
                (8, "saturation"),
            ):
                factor = 1 + getattr(recipe, field) * (2 * u[:, column] - 1)
                expected = torch.where(jittered, factor, torch.ones(50))
                assert torch.equal(getattr(params, field), expected)
            assert torch.equal(params.flip, u[:, 4] < recipe.flip)
            assert torch.equal(params.grey, u[:, 9] < recipe.grey)
            places = u[:, 2:4] * (1 - params.box[:, 2:])
            assert torch.equal(params.box[:, :2], places)
            for later in (params.hue, params.order, params.blur, params.solarise):
                assert not later.any()
    assert torch.equal(
        torch.rand(3, generator=generator), torch.rand(3, generator=plain)
    )


def test_the_later_numbers_do_not_repeat_the_first_ones(generator):
    """Hue, order, blur and solarise against all else, within and across two draws."""
    draws = [views.draw(20_000, "vicreg", generator) for _ in range(2)]
    later = [p for d in draws for p in (d.hue, d.order, d.blur, d.solarise)]
    early = [p for d in draws for p in (*d.box.T, d.flip, d.contrast, d.grey)]
    table = torch.stack([column.double() for column in (*later, *early)])
    correlations = torch.corrcoef(table)[: len(later)].abs()
    correlations[:, : len(later)].fill_diagonal_(0)
    # 1 / sqrt(20,000) is .007; of 160 the largest stays below five times that.
    assert correlations[:, : len(later)].max() < 0.035
    assert correlations[:, len(later) : len(later) + 5].max() < 0.035
    assert correlations[:, len(later) + 7 : len(later) + 12].max() < 0.035


@pytest.mark.parametrize("size", [32, 21])
@pytest.mark.parametrize("recipe", ["standard", "simclr", "barlow_twins", "vicreg"])
def test_a_slice_of_the_draw_gives_that_slice_of_the_views(
    rng, generator, recipe, size
):
    images = rng.integers(0, 256, (40, size, size, 3), dtype=np.uint8)
    params = views.draw(40, recipe, generator)
    whole = views.apply(images, params)
    assert len(params[7:20]) == 13
    for rows in (slice(0, 1), slice(7, 20), slice(20, 40)):
        assert torch.equal(views.apply(images[rows], params[rows]), whole[rows])


def test_a_batch_larger_than_a_block_gives_the_same_views(
    images, generator, monkeypatch
):
    params = views.draw(6, "simclr", generator)
    whole = views.apply(images, params)
    monkeypatch.setattr(views, "BLOCK_BYTES", 1)
    assert torch.equal(views.apply(images, params), whole)


def test_images_stay_as_they_are(images, generator):
    before = images.copy()
    views.pair(torch.from_numpy(images), "barlow_twins", generator=generator)
    np.testing.assert_array_equal(images, before)


def test_tensors_and_arrays_give_the_same_views(images, generator):
    params = views.draw(6, "vicreg", generator)
    assert torch.equal(
        views.apply(images, params), views.apply(torch.tensor(images), params)
    )


def test_an_array_that_runs_backwards_is_an_array_of_images(images, generator):
    """A mirrored or channel-swapped look at an array has strides torch has not."""
    params = views.draw(6, "weak", generator)
    for turned in (images[:, :, ::-1], images[..., ::-1], images[::-1]):
        expected = views.apply(turned.copy(), params)
        assert torch.equal(views.apply(turned, params), expected)


@cuda
@pytest.mark.gpu
@pytest.mark.parametrize("recipe", ["strong", "simclr", "barlow_twins"])
def test_another_device_gives_the_same_views(images, generator, recipe):
    params = views.draw(6, recipe, generator)
    x = views.apply(torch.tensor(images, device="cuda"), params)
    assert x.is_cuda
    # Bilinear weights in float32, summed in another order; a turn of hue magnifies.
    torch.testing.assert_close(x.cpu(), views.apply(images, params), atol=6e-5, rtol=0)


@pytest.mark.parametrize("recipe", sorted(views.RECIPES))
def test_views_are_float32_between_zero_and_one(images, generator, recipe):
    x, x_prime = views.pair(images, recipe, generator=generator)
    for view in (x, x_prime):
        assert view.shape == (6, 3, 9, 12) and view.dtype == torch.float32
        # A Gaussian's weights and a turned hue may round up.
        assert view.min() >= -1e-6 and view.max() <= 1 + 1e-6


def test_a_single_pair_is_enough(images):
    x, x_prime = views.flat_pairs(images[:1], "simclr", seed=0)
    assert x.shape == x_prime.shape == (1, 3 * 9 * 12)
    assert np.isfinite(x).all() and not np.array_equal(x, x_prime)


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
# Green and blue never vary, and no change of colour mixes red into them.
AS_IS = views.Recipe(jitter=0.0, grey=0.0)
RED = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3) * np.array([1, 0, 0], np.uint8)

REFUSALS = [
    (lambda: views.draw(0, "weak", GENERATOR), "`n` must be at least 1"),
    (
        lambda: views.draw(2, "weka", GENERATOR),
        "`recipe` is 'weka'.*did you mean 'weak'",
    ),
    (lambda: views.draw(3, "weak", None), "`generator` must be a torch.*; got None"),
    (lambda: views.draw(3, "weak", 0), "`generator` must be a torch.Generator.*got 0"),
    (lambda: views.draw(3, None, GENERATOR), "`recipe` is None, which is not known"),
    (lambda: views.apply(PIXELS / 255, unchanged(2)), "`images` .* uint8.*float64"),
    (lambda: views.apply(PIXELS[0], unchanged(2)), r"`images` .*\(4, 4, 3\)"),
    (lambda: views.apply(PIXELS[..., :1], unchanged(2)), r"`images` .*\(2, 4, 4, 1\)"),
    (lambda: views.apply(PIXELS[:0], unchanged(0)), "`images` .* n >= 1"),
    (lambda: views.apply(PIXELS, unchanged(3)), "`params` .* 3 rows for 2 images"),
    (lambda: views.apply([1, 2], unchanged(2)), "`images` .* got <class 'list'>"),
    (lambda: views.apply(PIXELS.transpose(0, 3, 1, 2), unchanged(2)), "`images` .* 3,"),
    (
        lambda: views.pair(PIXELS[:0], "weak", generator=GENERATOR),
        "`images` .* n >= 1; got",
    ),
    (
        lambda: views.pair(PIXELS, "barlow", generator=GENERATOR),
        "`recipe` is 'barlow'.*did you mean 'barlow_twins'",
    ),
    (
        lambda: views.pair(PIXELS[:, :2], "barlow_twins", generator=GENERATOR),
        "`images` are 2 x 4 pixels, too small for a blur",
    ),
    (lambda: views.flat_pairs(PIXELS, "weak", seed=0), "`images` .* never varies"),
    (
        lambda: views.flat_pairs(PIXELS + 77, "strong", seed=0),
        "`images` .* never varies",
    ),
    (lambda: views.flat_pairs(RED, AS_IS, seed=0), "`images` .* never varies"),
    (lambda: views.flat_pairs(PIXELS, "weak", seed=-1), "`seed` must be at least 0"),
    (lambda: views.Recipe(scale=(0.0, 1.0)), "`scale` must be finite and positive"),
    (lambda: views.Recipe(scale=(0.5, 1.5)), "`scale` must be .* high <= 1"),
    (lambda: views.Recipe(scale=(0.5, 0.2)), "`scale` must be .* low <= high"),
    (lambda: views.Recipe(ratio=(2.0, 1.0)), "`ratio` must be .* low <= high"),
    (lambda: views.Recipe(ratio=(1.0,)), "`ratio` must be .* low <= high"),
    (lambda: views.Recipe(flip=1.5), "`flip` must be between 0 and 1; got 1.5"),
    (lambda: views.Recipe(grey=float("nan")), "`grey` must be between 0 and 1"),
    (lambda: views.Recipe(grey="often"), "`grey` must be between 0 and 1; got 'often'"),
    (lambda: views.Recipe(hue=0.6), "`hue` must be between 0 and 0.5; got 0.6"),
    (lambda: views.Recipe(sigma=(0.0, 2.0)), "`sigma` must be finite and positive"),
    (lambda: views.Recipe(blur=-0.1), "`blur` must be between 0 and 1"),
    (lambda: views.Recipe(order="any"), "`order` is 'any', which is not known"),
    (
        lambda: views.Recipe(second=views.RECIPES["barlow_twins"]),
        "`second` must not have a `second`",
    ),
    (lambda: views.Recipe(second="weak"), "`second` must be a Recipe.*got 'weak'"),
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
