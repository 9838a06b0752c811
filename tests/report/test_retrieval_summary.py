import pytest
from made_retrieval import make_evaluation, make_ranking, make_seed, make_test, make_training

from avpipe.errors import AvpipeError
from avpipe.io.manifest import write_json
from avpipe.report.retrieval import summarise
from avpipe.report.retrieval_notices import direction_label, run_label
from avpipe.schema.reading import read_evaluation
from avpipe.schema.retrieval import Figures, RetrievalEvaluation, SeedRankings


def test_a_result_for_each_subset_with_means_and_deviations_in_percent():
    one, other = summarise(make_evaluation([10.0, 20.0, 30.0], subsets=("test", "youcook2/test")))
    assert [one.subset, other.subset] == ["test", "youcook2/test"]
    forwards, backwards = one.language_to_video, one.video_to_language
    assert forwards.mean.r1 == pytest.approx(20) and forwards.std.r1 == pytest.approx(10)
    assert backwards.mean.r5 == pytest.approx(20)
    assert forwards.mean.median_rank == 4.0 and forwards.std.mean_rank == 0.0  # ranks are no percentages
    assert one.chance.to_json() == {"r1": 0.1, "r5": 0.5, "r10": 1.0}
    assert [seed.language_to_video.r1 for seed in one.seeds] == pytest.approx([10, 20, 30])
    assert [seed.seed for seed in one.seeds] == [1, 2, 3] and isinstance(one.seeds[0], SeedRankings)


def test_the_protocol_says_what_divides_and_takes_the_most_ties():
    seeds = [make_seed(n, 10.0, metrics={"n_tied": n}) for n in (1, 2)]
    (result,) = summarise(make_evaluation([], seeds=seeds))
    protocol = result.protocol
    assert (protocol.n_queries, protocol.n_ranked, protocol.gallery) == (1000, 968, 968)
    assert protocol.n_tied.to_json() == {"language_to_video": 2, "video_to_language": 2}
    assert protocol.ties == "pessimistic" and protocol.missing == {"no_audio": 30}


def test_one_seed_has_no_deviation_and_what_a_seed_lacks_has_no_mean():
    (result,) = summarise(make_evaluation([50.0]))
    assert {getattr(result.language_to_video.std, name) for name in Figures.model_fields} == {None}
    lacking = make_test(10.0, language_to_video=make_ranking(10.0, median_rank=None))
    seeds = [make_seed(1, 10.0), make_seed(2, 10.0).model_copy(update={"tests": {"test": lacking}})]
    (result,) = summarise(make_evaluation([], seeds=seeds))
    assert result.language_to_video.mean.median_rank is None
    assert result.video_to_language.mean.median_rank == 4.0


def test_labels():
    (result,) = summarise(make_evaluation([10.0], model="avlnet_text_tri", variant="permuted"))
    assert run_label(result) == "fine_tuned, permuted"
    assert direction_label(result, "language_to_video") == "text → audio+video"
    assert direction_label(result, "video_to_language") == "audio+video → text"


@pytest.mark.parametrize(
    ("label", "training", "expected"),
    [("random:3", None, True), ("random", make_training(), False), ("ab" * 32, None, False)],
)
def test_an_untrained_model_was_drawn_and_never_trained(label, training, expected):
    start = {"spec": label, "label": label, "sha256": None}
    (result,) = summarise(make_evaluation([], start=start, seeds=[make_seed(None, 10.0, training=training)]))
    assert result.is_untrained is expected


def test_another_versions_evaluation_is_refused(tmp_path):
    old = make_evaluation([10.0]).to_json()
    for lacking, found in (("chance", "chance: Field required"), ("schema_version", "schema_version is none")):
        del old[lacking]
        write_json(tmp_path / "e.json", old)
        with pytest.raises(
            AvpipeError, match=rf"e\.json is not a result .*{found}.*Delete it and run the same command"
        ):
            read_evaluation(tmp_path / "e.json", RetrievalEvaluation)
    with pytest.raises(AvpipeError, match="holds no seed"):
        summarise(make_evaluation([]))


def test_seeds_that_were_tested_on_different_clips_are_not_averaged():
    seeds = [make_seed(1, 10.0), make_seed(2, 10.0, gallery=967)]
    with pytest.raises(AvpipeError, match=r"967.*same clips"):
        summarise(make_evaluation([], seeds=seeds))
