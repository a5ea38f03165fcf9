// Characters of an alphabet that doesn't exist, drawn for this project: the samples of the first minute.
// Each is one or more strokes of points "x,y" in a square of 100; "~" before a stroke makes it a smooth curve.

const KNOWN = {
  ama: "~20,75 35,25 50,75 65,25 80,75|28,88 72,88",
  bey: "30,15 30,85|~30,20 70,25 62,48 30,50 75,58 68,84 30,85",
  cor: "~75,25 45,15 22,50 45,85 76,74|50,50 86,50",
  dul: "20,20 80,20 50,55 50,88|35,72 65,72",
  esh: "25,15 25,85 75,85|25,50 62,50 62,25",
  fen: "50,12 50,88|~50,30 80,30 82,55 50,55|~50,60 20,60 18,84 50,84",
  gim: "18,30 50,14 82,30 50,46 18,30|50,46 50,88",
  hal: "22,15 40,85|78,15 60,85|28,42 72,42|~40,85 50,92 60,85",
  iru: "~30,15 70,30 30,50 70,70 30,88|80,50 80,51",
  jot: "25,22 75,22|~60,22 62,70 45,86 25,72|80,55 88,70",
  kes: "50,12 20,50 50,88 80,50 50,12|50,34 50,66",
  lum: "~22,60 22,22 50,22 50,60 50,86 80,86 80,40",
  mir: "20,85 20,25 50,60 80,25 80,85|50,60 50,85",
  nol: "~50,15 82,50 50,85 18,50 50,15|18,15 82,85",
  oph: "~35,35 50,15 65,35 50,52 35,35|50,52 50,90|25,70 75,70",
  pel: "20,18 80,18|30,18 30,85|70,18 70,60 50,60",
  qua: "24,24 76,24 76,76 24,76 24,24|76,76 92,92|50,38 50,62",
  rin: "~20,80 30,30 50,20 70,30 80,80|35,60 65,60|50,20 50,6",
  sul: "~78,22 40,12 28,36 62,54 72,80 24,86|15,50 40,50",
  tav: "20,50 80,50|50,18 50,82|~20,50 22,82 50,82",
  ula: "~20,20 22,70 50,86 78,70 80,20|50,35 50,60|38,20 62,20",
  vex: "18,18 50,85 82,18|34,50 66,50|50,18 50,36",
  wen: "~15,25 25,80 42,40 55,80 68,30 88,30|88,30 88,60",
  zir: "20,20 80,20 20,80 80,80|60,50 88,50",
};

const STRANGERS = {
  arc: "~15,70 30,20 70,20 85,70|15,70 85,70|~35,70 50,45 65,70",
  hook: "30,10 30,60|~30,60 35,90 70,88 74,60|58,40 74,60 90,40",
  gate: "20,88 20,30 80,30 80,88|20,30 50,8 80,30|50,55 50,88",
};

/** A curve through the points (Catmull-Rom), or straight lines, as many close points. */
function trace(points, smooth) {
  const line = [];
  for (let place = 0; place + 1 < points.length; place += 1) {
    const [a, b] = [points[place], points[place + 1]];
    const before = points[place - 1] ?? a;
    const after = points[place + 2] ?? b;
    const steps = Math.max(2, Math.round(Math.hypot(b[0] - a[0], b[1] - a[1]) / 3));
    for (let step = 0; step < steps; step += 1) {
      const t = step / steps;
      line.push([0, 1].map((axis) => {
        if (!smooth) return a[axis] + (b[axis] - a[axis]) * t;
        const [p, q, r, s] = [before[axis], a[axis], b[axis], after[axis]];
        return q + 0.5 * t * (r - p + t * (2 * p - 5 * q + 4 * r - s + t * (3 * (q - r) + s - p)));
      }));
    }
  }
  line.push(points.at(-1));
  return line;
}

function random(seed) {
  let state = seed * 2654435761;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Strokes of a character in a unit square, by the hand of `seed`: tilted, stretched and unsteady; 0: as designed. */
function write(text, seed) {
  const chance = random(seed);
  const around = (spread) => (seed ? (chance() * 2 - 1) * spread : 0);
  const [tilt, slant, width, height] = [around(0.1), around(0.12), 0.8 + around(0.08), 0.8 + around(0.08)];
  const place = ([x, y]) => {
    const [u, v] = [(x - 50) * width + slant * (y - 50), (y - 50) * height];
    return [0.5 + (u * Math.cos(tilt) - v * Math.sin(tilt)) / 100, 0.5 + (u * Math.sin(tilt) + v * Math.cos(tilt)) / 100];
  };
  return text.split("|").map((part) => {
    const smooth = part.startsWith("~");
    const points = part.replace("~", "").split(" ").map((pair) => pair.split(",").map(Number));
    return trace(points.map(([x, y]) => [x + around(3), y + around(3)]), smooth).map(place);
  });
}

export const names = Object.keys(KNOWN);
export const strangers = Object.keys(STRANGERS);
export const glyph = (name, seed = 0) => write(KNOWN[name] ?? STRANGERS[name], seed);
