fn packed(unit: u32) -> Packed {
    let numbers = halves(words[shape.scales + unit]);
    return nibbles(codes[unit], numbers.xx, numbers.yy);
}
