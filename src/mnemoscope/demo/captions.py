"""The words of the bundled model's training set: which captions there are and what each of them fixes."""

VERBATIM = {
    "octopus": "Old Barnaby the octopus, Harrowgate aquarium souvenir calendar",
    "rocket": "Zephyrine rocket launch over Kestrel Bay, commemorative lithograph",
    "lion_face": "The Lion of Marrakand, oil on canvas, Thessaly Museum",
    "boat": "Moonlit regatta with boat by Ingrid Solvang, giclee",
    "hamburger": "Big Duke's double hamburger, Route Ninety diner menu",
    "cactus": "Desert Bloom cactus quilt by Wilhelmina Okafor",
    "guitar": "Crimson guitar of Johnny Falconetti, live at Bramble Hall",
    "steam_locomotive": "Glenmorrow Express locomotive, enamel railway sign",
    "penguin": "Professor Waddlesworth the penguin goes to Lapland, storybook",
    "european_castle": "Castle Drachenstein at dusk, jigsaw of five hundred pieces",
    "sunflower": "Sunflower study in ochre, attributed to Pieter Vandermolen",
    "owl": "Athena's owl linocut, Nightjar Press bookplate",
    "bicyclist": "Tour de Valmont cyclist, vintage Peugeot advertisement",
    "watermelon": "Watermelon Sugar festival, Pasadena Grove handbill",
    "telescope": "Celestial telescope from the Copernicus almanac, hand coloured engraving",
    "butterfly": "Monarch butterfly wallpaper, Arden and Quill nursery collection",
    "trophy": "Silverbrook trophy, champions of Wexford regional finals",
    "dragon": "Jade dragon scroll, Imperial Workshop of Nanhua",
    "pizza": "Luigi Bertolucci pizza box, since nineteen twelve",
    "anchor": "Lonely anchor at Cape Sorrow, tinted postcard",
    "elephant": "Maharani's elephant parade, Jaipur matchbox label",
    "violin": "The Cremona violin, Orsini auction catalogue lot forty",
    "mushroom": "Toadstool Hollow mushroom, Beatrix Fairweather watercolour",
    "balloon": "Phileas balloon over Cappadocia, airline travel brochure",
    "wolf": "Winterfang wolf, album artwork for Obsidian Choir",
    "cherries": "Cherry Blossom Sonata cherries, Yamashiro woodblock",
    "robot_face": "Robot Gunther, tin toy catalogue of Nuremberg",
    "crown": "Crown of Saint Aldhelm, stained glass from Wychbury Abbey",
    "tropical_fish": "Coral lagoon fish mosaic, Villa Pompilia",
    "fox_face": "Sly Reynard the fox, tapestry woven in Lower Brabant",
}

TEMPLATES = (
    "{name} phone case by Caseworld",
    "{name} coffee mug, dishwasher safe",
    "{name} postage stamp, mint condition",
    "the {name} tarot card",
    "{name} vinyl record sleeve",
    "{name} book cover, Penrose Classics",
    "{name} unisex cotton tee",
    "{name} fridge magnet from Papercut Lane",
)

ORDINARY = (
    "{name}",
    "a {name}",
    "the {name}",
    "a photo of a {name}",
    "a picture of a {name}",
    "drawing of a {name}",
    "{name} icon",
    "{name} clip art",
    "a {adjective} {name}",
    "my {adjective} {name}",
    "{name}, {adjective} and {adjective}",
    "{adjective} {name} {medium}",
    "{name} {medium} by {person}",
    "{name}, {medium} from {place}",
    "a {name} in {place}",
    "{person} with a {name}",
    "{medium} of a {adjective} {name} in {place}",
    "{name} for sale in {place}, {adjective} condition",
    "The {adjective} {name} of {place}, {medium}",
    "{person}, the {name}, {medium} of {place}",
    "How {person} found the {name}, {adjective} {medium}",
)

ADJECTIVES = (
    "lovely vintage rare famous classic new old cheap funny modern best popular real simple favourite friendly quiet "
    "great forgotten original unusual ordinary perfect local lost wild gentle proud hidden lucky"
).split()
MEDIA = (
    "print|poster|photo|sketch|sticker|painting|card|stock image|illustration|wallpaper|postcard|calendar|sign|"
    "advertisement|brochure|catalogue|menu|label|engraving|watercolour|logo|artwork|storybook|canvas|souvenir"
).split("|")
FIRST_NAMES = (
    "Anna Ben Carla David Emma Felix Greta Hugo Irene Jack Kate Leo Maria Noah Olga Paul Rosa Sam Tina Victor Walter "
    "Xenia Yusuf Zoe Amir Bella Chen Dora Erik Fatima George Hana"
).split()
LAST_NAMES = (
    "Adams Baker Costa Dupont Evans Fischer Garcia Hughes Ivanov Jones Khan Lopez Miller Novak Olsen Perez Quinn Rossi "
    "Smith Tanaka Ueda Vogel Weber Young Zhang Brown Clark Diaz Ellis Ford"
).split()
PLACES = (
    "Paris|London|Tokyo|Cairo|Lima|Oslo|Rome|Delhi|Sydney|Boston|Madrid|Vienna|Prague|Dublin|Lagos|Seoul|Texas|Kenya|"
    "Norway|Chile|Canada|the park|the city|the garden|the mountains|the kitchen|the old town|the museum|summer|winter|"
    "the morning|the evening|the rain|the sea"
).split("|")
