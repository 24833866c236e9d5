import torch

from discover_stream.generation.text import MAX_TAGS, TagEmbedding, tags_in


def test_tags_are_read_once_each_and_bounded() -> None:
    assert tags_in(" Bus,car ,, delivery   van, car") == ["bus", "car", "delivery van"]
    assert tags_in("") == []
    assert len(tags_in(",".join(f"tag {number}" for number in range(40)))) == MAX_TAGS


def test_texts_become_one_token_a_tag_and_an_empty_one_the_null_condition() -> None:
    torch.manual_seed(0)
    embedding = TagEmbedding(8)
    tokens = embedding.encode(["car, bus", "", "bus"])
    assert tokens.shape == (3, MAX_TAGS + 1, 8)
    assert torch.equal(tokens[0, 2], tokens[2, 1])
    assert torch.equal(tokens[:, 0], embedding.null.expand(3, 8))
    assert torch.equal(tokens[1, 1:], embedding.absent.expand(MAX_TAGS, 8))
    assert not torch.equal(tokens[0, 1], tokens[0, 2])


def test_words_that_share_letters_are_nearer_than_others() -> None:
    torch.manual_seed(0)
    embedding = TagEmbedding(64)
    truck, trucks, zebra = embedding.encode(["truck", "trucks", "zebra"])[:, 1]
    assert torch.dist(truck, trucks) < torch.dist(truck, zebra)


def test_gradients_reach_the_letters_of_the_tags_alone() -> None:
    embedding = TagEmbedding(4)
    embedding.encode(["car"])[0, 1].sum().backward()
    assert embedding.letters.weight.grad is not None
    assert int((embedding.letters.weight.grad.abs().sum(dim=1) > 0).sum()) == 3
