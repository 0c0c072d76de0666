"""The colours in which ControlNet's segmentation models know the 150 classes of ADE20K (Zhou 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Colour = tuple[int, int, int]
_CLASSES = """
    wall:787878 building:B47878 sky:06E6E6 floor:503232 tree:04C803 ceiling:787850 road:8C8C8C bed:CC05FF
    windowpane:E6E6E6 grass:04FA07 cabinet:E005FF sidewalk:EBFF07 person:96053D earth:787846 door:08FF33 table:FF0652
    mountain:8FFF8C plant:CCFF04 curtain:FF3307 chair:CC4603 car:0066C8 water:3DE6FA painting:FF0633 sofa:0B66FF
    shelf:FF0747 house:FF09E0 sea:0907E6 mirror:DCDCDC rug:FF095C field:7009FF armchair:08FFD6 seat:07FFE0
    fence:FFB806 desk:0AFF47 rock:FF290A wardrobe:07FFFF lamp:E0FF08 bathtub:6608FF railing:FF3D06 cushion:FFC207
    base:FF7A08 box:00FF14 column:FF0829 signboard:FF0599 chest_of_drawers:0633FF counter:EB0CFF sand:A09614
    sink:00A3FF skyscraper:8C8C8C fireplace:FA0A0F refrigerator:14FF00 grandstand:1FFF00 path:FF1F00 stairs:FFE000
    runway:99FF00 case:0000FF pool_table:FF4700 pillow:00EBFF screen_door:00ADFF stairway:1F00FF river:0BC8C8
    bridge:FF5200 bookcase:00FFF5 blind:003DFF coffee_table:00FF70 toilet:00FF85 flower:FF0000 book:FFA300 hill:FF6600
    bench:C2FF00 countertop:008FFF stove:33FF00 palm:0052FF kitchen_island:00FF29 computer:00FFAD swivel_chair:0A00FF
    boat:ADFF00 bar:00FF99 arcade_machine:FF5C00 hovel:FF00FF bus:FF00F5 towel:FF0066 light:FFAD00 truck:FF0014
    tower:FFB8B8 chandelier:001FFF awning:00FF3D streetlight:0047FF booth:FF00CC television_receiver:00FFC2
    airplane:00FF52 dirt_track:000AFF apparel:0070FF pole:3300FF land:00C2FF bannister:007AFF escalator:00FFA3
    ottoman:FF9900 bottle:00FF0A buffet:FF7000 poster:8FFF00 stage:5200FF van:A3FF00 ship:FFEB00 fountain:08B8AA
    conveyer_belt:8500FF canopy:00FF5C washer:B800FF plaything:FF001F swimming_pool:00B8FF stool:00D6FF barrel:FF0070
    basket:5CFF00 waterfall:00E0FF tent:70E0FF bag:46B8A0 minibike:A300FF cradle:9900FF oven:47FF00 ball:FF00A3
    food:FFCC00 step:FF008F tank:00FFEB trade_name:85FF00 microwave:FF00EB pot:F500FF animal:FF007A bicycle:FFF500
    lake:0ABED4 dishwasher:D6FF00 screen:00CCFF blanket:1400FF sculpture:FFFF00 hood:0099FF sconce:0029FF vase:00FFCC
    traffic_light:2900FF tray:29FF00 ashcan:AD00FF fan:00F5FF pier:4700FF crt_screen:7A00FF plate:00FFB8
    monitor:005CFF bulletin_board:B8FF00 shower:0085FF radiator:FFD600 glass:19C2C2 clock:66FF00 flag:5C00FF
"""


@cache
def ade20k() -> Mapping[str, Colour]:
    """RGB by class, in the order of the labels: the wall is 0."""
    pairs = (entry.split(":") for entry in _CLASSES.split())
    return MappingProxyType({name: _rgb(colour) for name, colour in pairs})


def in_colours(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) of labels to (h, w, 3); what is no class is black."""
    import numpy as np

    palette = np.zeros((256, 3), np.uint8)
    palette[: len(ade20k())] = tuple(ade20k().values())
    return palette[labels]


def _rgb(colour: str) -> Colour:
    red, green, blue = bytes.fromhex(colour)
    return red, green, blue
