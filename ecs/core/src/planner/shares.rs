//! How many each server is to hold: exact shares of a total by weight, rounded so that they add up.

/// A share of `total` by weight, rounded down, and whether there is a rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// The share, rounded down.
    pub(super) floor: usize,
    /// There is a rest: the share rounded up is one more.
    pub(super) rest: bool,
}

impl Share {
    /// The share, rounded up.
    pub(super) fn ceil(self) -> usize {
        self.floor + usize::from(self.rest)
    }
}

/// The shares of `total` by weight, no share above its cap. What the capped ones cannot take is shared among the
/// others by weight. A weight of 0 takes a share only of what all others cannot.
pub(super) fn shares(total: usize, weights: &[u64], caps: &[usize]) -> Vec<Share> {
    assert_eq!(weights.len(), caps.len());
    let mut shares = vec![Share { floor: 0, rest: false }; weights.len()];
    let mut open: Vec<usize> = (0..weights.len()).collect();
    let mut left = total as u64;
    loop {
        let sum: u64 = open.iter().map(|&index| weights[index]).sum();
        let over = |index: usize| left * weights[index] >= caps[index] as u64 * sum;
        let (capped, rest): (Vec<usize>, Vec<usize>) = open.iter().partition(|&&index| over(index));
        if capped.is_empty() {
            for &index in &rest {
                let product = left * weights[index];
                shares[index] = Share { floor: usize_of(product / sum), rest: !product.is_multiple_of(sum) };
            }
            return shares;
        }
        for &index in &capped {
            // Less than the cap only for those of weight 0, which take what the others cannot.
            let floor = caps[index].min(usize_of(left));
            shares[index] = Share { floor, rest: false };
            assert!(floor as u64 <= left, "no more is shared than there is");
            left -= floor as u64;
        }
        open = rest;
        if open.is_empty() {
            return shares;
        }
    }
}

/// Whole numbers within the shares that add up to `total`: those that hold most now are rounded up.
pub(super) fn quotas(total: usize, shares: &[Share], holds: &[usize]) -> Vec<usize> {
    assert_eq!(shares.len(), holds.len());
    let mut quotas: Vec<usize> = shares.iter().map(|share| share.floor).collect();
    let mut left = total.saturating_sub(quotas.iter().sum());
    let mut order: Vec<usize> = (0..shares.len()).filter(|&index| shares[index].rest).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(holds[index].saturating_sub(shares[index].floor)));
    for index in order {
        if left == 0 {
            break;
        }
        quotas[index] += 1;
        left -= 1;
    }
    assert!(quotas.iter().zip(shares).all(|(&quota, share)| share.floor <= quota && quota <= share.ceil()));
    quotas
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).expect("a share of a number that was a usize")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_shares_add_up() {
        let shares = shares(10, &[1, 1, 1], &[10; 3]);
        assert_eq!(shares[0], Share { floor: 3, rest: true });
        assert_eq!(
            quotas(10, &shares, &[3, 4, 3]),
            [3, 4, 3],
            "the share of the fullest server is rounded up"
        );
    }

    #[test]
    fn who_has_no_weight_takes_what_the_others_cannot() {
        let floors = |total, weights: &[u64], caps: &[usize]| -> Vec<usize> {
            shares(total, weights, caps).iter().map(|share| share.floor).collect()
        };
        assert_eq!(floors(8, &[0, 1, 1], &[8; 3]), [0, 4, 4]);
        assert_eq!(floors(2, &[0, 1], &[2; 2]), [0, 2]);
        assert_eq!(floors(8, &[0, 1, 1], &[8, 3, 2]), [3, 3, 2]);
    }

    #[test]
    fn a_heavy_server_takes_no_more_than_its_cap() {
        let shares = shares(12, &[10, 1, 1], &[4; 3]);
        assert_eq!(quotas(12, &shares, &[0; 3]), [4, 4, 4]);
        let shares = super::shares(12, &[10, 1, 1, 2], &[4; 4]);
        assert_eq!(quotas(12, &shares, &[0; 4]), [4, 2, 2, 4]);
    }
}
