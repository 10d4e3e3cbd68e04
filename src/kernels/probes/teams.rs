//! Teams of lanes: which sizes of subgroups a driver really runs, and whether every lane has a place of its own in its team.

use crate::error::Result;
use crate::gpu::{Binding, Buf, Cost, Count, Gpu, KernelDef, Plan, Usage, wgsl};
use crate::kernels::case::{Case, Mismatch, Reached};
use crate::kernels::parts::{TEAM, file};
use crate::kernels::sizes::size;
use std::collections::{BTreeMap, BTreeSet};

/// Lanes of a workgroup: the sizes that kernels have.
const LANES: [usize; 4] = [32, 64, 128, 256];
const GROUPS: usize = 8;
/// Words that a lane writes.
const WORDS: usize = 4;

fn def(lanes: usize) -> KernelDef {
    KernelDef::new("teams", vec![TEAM, file(wgsl!("teams.wgsl"))], vec![Binding::write("seen")])
        .overrides(&[("WG", size(lanes))])
}

fn record(plan: &mut Plan, lanes: usize, seen: &Buf<u32>) -> Result<()> {
    let grid = [Count::Fixed(size(GROUPS)), Count::Fixed(1)];
    plan.dispatch(&def(lanes), "teams", &[("seen", seen.bind())], grid, Cost::default())
}

/// What is wrong with the teams of a workgroup: lanes must fill the places of their team, from 0 on, and a sum must have all of them.
fn wrong(group: &[u32]) -> Option<(usize, String)> {
    let mut teams: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (lane, seen) in group.chunks_exact(WORDS).enumerate() {
        let [summed, team, place, _] = [seen[0], seen[1], seen[2], seen[3]];
        if place >= summed {
            return Some((lane, format!("lane {lane} has place {place} in a team whose sum has {summed} lanes")));
        }
        if !teams.entry(team).or_default().insert(place) {
            return Some((lane, format!("two lanes have place {place} of team {team}")));
        }
    }
    for (lane, seen) in group.chunks_exact(WORDS).enumerate() {
        let places = &teams[&seen[1]];
        let (count, sum): (usize, u32) = (places.len(), places.iter().sum());
        if seen[0] as usize != count || seen[3] != sum {
            let said = format!("lane {lane}: the sums of team {} have {} lanes, it has {count}", seen[1], seen[0]);
            return Some((lane, said));
        }
    }
    None
}

/// Sizes of teams seen, by the lanes of a workgroup.
pub async fn seen(gpu: &Gpu) -> Result<Vec<(usize, BTreeSet<u32>)>> {
    let mut all = Vec::new();
    for lanes in LANES {
        let seen = gpu.buffer::<u32>("teams", GROUPS * lanes * WORDS, Usage::Storage)?;
        let mut plan = Plan::new(gpu, "teams");
        record(&mut plan, lanes, &seen)?;
        plan.run(1)?;
        let words = gpu.read(&seen, 0..seen.len()).await?;
        all.push((lanes, words.chunks_exact(WORDS).map(|lane| lane[0]).collect()));
    }
    Ok(all)
}

pub(in crate::kernels) fn defs() -> Vec<KernelDef> {
    LANES.map(def).to_vec()
}

pub(in crate::kernels) fn cases() -> Vec<Case> {
    let case = |lanes: usize| {
        Case::new("teams", format!("{GROUPS} workgroups of {lanes} lanes"), move |io| {
            let judge = move |words: &[u32]| {
                let groups = words.chunks_exact(lanes * WORDS).enumerate();
                match groups.filter_map(|(i, group)| Some((i, wrong(group)?))).next() {
                    None => Ok(Reached::default()),
                    Some((i, (_, why))) => Err(Mismatch::Broken { output: format!("seen, workgroup {i}"), why }),
                }
            };
            let seen = io.output_words("seen", &vec![None; GROUPS * lanes * WORDS], judge)?;
            record(&mut io.plan, lanes, &seen)
        })
    };
    LANES.map(case).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teams_that_share_a_place_or_miss_a_lane_are_found() {
        // Two teams of two lanes.
        let good = [[2, 0, 0, 1], [2, 0, 1, 1], [2, 1, 0, 1], [2, 1, 1, 1]];
        assert_eq!(wrong(good.as_flattened()), None);
        for (lane, word, value, said) in [
            (1, 2, 0, "two lanes"),
            (1, 2, 5, "place 5"),
            (2, 0, 3, "have 3 lanes"),
            (3, 3, 0, "sums"),
            (0, 1, 7, "sums"),
        ] {
            let mut bad = good;
            bad[lane][word] = value;
            let (_, why) = wrong(bad.as_flattened()).expect(said);
            assert!(why.contains(said), "{why}");
        }
    }
}
