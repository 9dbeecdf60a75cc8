fn unpack(unit: u32) -> Unit {
    let low = codes[unit];
    var result: Unit;
    k_scales(unit, &result);
    for (var i = 0u; i < 4u; i++) {
        result.first[i] = low_nibbles(low[i]);
        result.second[i] = high_nibbles(low[i]);
    }
    return result;
}
