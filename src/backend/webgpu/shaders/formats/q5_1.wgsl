fn unpack(unit: u32) -> Unit {
    let low = codes[unit];
    let high = words[shape.high + unit];
    let numbers = halves(words[shape.scales + unit]);
    return Unit(
        low_nibbles(low.x) + fifth_bits(high, 0u),
        low_nibbles(low.y) + fifth_bits(high, 4u),
        low_nibbles(low.z) + fifth_bits(high, 8u),
        low_nibbles(low.w) + fifth_bits(high, 12u),
        high_nibbles(low.x) + fifth_bits(high, 16u),
        high_nibbles(low.y) + fifth_bits(high, 20u),
        high_nibbles(low.z) + fifth_bits(high, 24u),
        high_nibbles(low.w) + fifth_bits(high, 28u),
        numbers.xx,
        numbers.yy,
    );
}
