"""Names and things for the packs, cut so that no two splits share one."""

from collections.abc import Mapping

NAMES: Mapping[str, tuple[str, ...]] = {
    "train": tuple(
        "Ana Ben Carla David Elena Frank Grace Hugo Irene Jack Karen Leo Maria Nina Oscar Paula Ralf Sara Tom Uma "
        "Victor Wendy Yara Zane Alice Bruno Clara Dennis Emma Felix Greta Henry Ivy Jonas Kate Lucas".split()
    ),
    "dev": tuple("Adam Bella Colin Diana Erik Flora Gavin Helen Ivan Julia Kevin Laura".split()),
    "gate": tuple(
        "Aaron Betty Carl Dora Eddie Fiona George Hannah Isaac Jenny Kurt Linda Mark Nora Owen Petra".split()
    ),
    "test": tuple(
        "Arthur Beth Chris Daisy Ethan Freya Gina Harry Isabel James Kira Liam Molly Nathan Olive Peter Rita Simon "
        "Tina Vera".split()
    ),
    "test_shapes": tuple("Amy Boris Cora Dylan Edith Fred Gloria Hector Inga Joel Lisa Max Nick Olga".split()),
}
SURNAMES: tuple[str, ...] = tuple("Adler Brook Cole Dean Ford Grant Hill Lane Moss Nash Park Reed Stone Wood".split())
THINGS: Mapping[str, tuple[str, ...]] = {
    "train": tuple(
        "apples pencils marbles cookies stickers books pears coins shells cards plums eggs buttons oranges stamps "
        "candles flowers balloons rolls nuts".split()
    ),
    "dev": tuple("peaches crayons badges muffins beads".split()),
    "gate": tuple("lemons markers pebbles tarts ribbons tickets cherries".split()),
    "test": tuple("figs erasers magnets pies feathers bolts dates bells bricks lamps".split()),
    "test_shapes": tuple("limes pins tiles buns keys seeds".split()),
}
CONTAINERS: tuple[tuple[str, str], ...] = (
    ("boxes", "box"),
    ("bags", "bag"),
    ("baskets", "basket"),
    ("jars", "jar"),
    ("packs", "pack"),
    ("trays", "tray"),
)
CITIES: Mapping[str, tuple[str, ...]] = {
    "train": tuple("Paris Madrid Oslo Vienna Lisbon Dublin Rome Prague Athens Berlin Geneva Warsaw".split()),
    "dev": tuple("Bern Porto Turin Ghent Malmo Cork".split()),
    "gate": tuple("Lyon Seville Bergen Graz Milan Krakow Bonn Leeds".split()),
    "test": tuple("Nice Valencia Tampere Linz Naples Gdansk Bremen York".split()),
}
PRODUCTS: Mapping[str, tuple[str, ...]] = {
    "train": tuple(
        "lamp kettle chair table clock mirror carpet pillow blanket radio camera printer keyboard backpack wallet "
        "umbrella bottle candle basket vase toaster blender ladder hammer".split()
    ),
    "dev": tuple("desk fan scarf tent mug drill speaker helmet shelf rake".split()),
    "gate": tuple("sofa heater jacket rope bowl saw monitor saddle stool broom towel globe teapot drum".split()),
    "test": tuple(
        "bench freezer violin tripod plate wrench tablet guitar cushion bucket curtain easel kite oven".split()
    ),
}
