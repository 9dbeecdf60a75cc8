fn packed(unit: u32) -> Packed {
    let numbers = halves(words[shape.scales + unit]);
    return with_fifth_bits(unit, numbers.xx, numbers.yy);
}
