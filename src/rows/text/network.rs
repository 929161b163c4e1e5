//! Addresses.

use super::NotAValue;
use super::input::Input;
use super::misc::hex;
use super::number::unsigned;

/// Family (2 or 3), bits of the mask, whether it is a `cidr`, number of bytes, bytes.
pub(super) fn network(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    let (family, bits, cidr, len) = (input.u8()?, input.u8()?, input.u8()?, input.u8()?);
    let all = match (family, len) {
        (2, 4) => {
            v4(input.array()?, out);
            32
        }
        (3, 16) => {
            v6(input.array()?, out);
            128
        }
        _ => return Err(NotAValue("an address of no known family")),
    };
    if cidr != 0 || bits != all {
        out.push(b'/');
        unsigned(u64::from(bits), out);
    }
    Ok(())
}

fn v4(bytes: [u8; 4], out: &mut Vec<u8>) {
    for (n, byte) in bytes.into_iter().enumerate() {
        if n > 0 {
            out.push(b'.');
        }
        unsigned(u64::from(byte), out);
    }
}

/// The longest run of zero words, the first of several, is left out; what looks like an embedded address of version 4
/// is written like one.
fn v6(bytes: [u8; 16], out: &mut Vec<u8>) {
    let word = |n: usize| u16::from_be_bytes([bytes[2 * n], bytes[2 * n + 1]]);
    let (mut start, mut len) = (8, 1);
    let mut n = 0;
    while n < 8 {
        let run = (n..8).take_while(|&n| word(n) == 0).count();
        if run > len {
            (start, len) = (n, run);
        }
        n += run.max(1);
    }
    let embedded =
        start == 0 && (len == 6 || (len == 7 && word(7) != 1) || (len == 5 && word(5) == 0xFFFF));
    let mut n = 0;
    while n < 8 {
        if n == start {
            out.extend_from_slice(b"::");
            n += len;
            continue;
        }
        if n > 0 && n != start + len {
            out.push(b':');
        }
        if embedded && n == 6 {
            v4([bytes[12], bytes[13], bytes[14], bytes[15]], out);
            break;
        }
        out.extend_from_slice(format!("{:x}", word(n)).as_bytes());
        n += 1;
    }
}

/// Six or eight bytes.
pub(super) fn mac(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), NotAValue> {
    if !matches!(bytes.len(), 6 | 8) {
        return Err(NotAValue("an address of another length"));
    }
    for (n, byte) in bytes.iter().enumerate() {
        if n > 0 {
            out.push(b':');
        }
        hex(&[*byte], out);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_left_out_once() {
        let printed = |text: &str| {
            let address: std::net::Ipv6Addr = text.parse().unwrap();
            let mut out = Vec::new();
            v6(address.octets(), &mut out);
            String::from_utf8(out).unwrap()
        };
        for (address, text) in [
            ("::", "::"),
            ("::1", "::1"),
            ("1::", "1::"),
            ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
            ("1:0:0:2:2:0:0:3", "1::2:2:0:0:3"),
            ("1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"),
            ("::1.2.3.4", "::1.2.3.4"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("::2", "::2"),
            ("::1:2", "::0.1.0.2"),
            ("fe80::1", "fe80::1"),
        ] {
            assert_eq!(printed(address), text);
        }
    }
}
