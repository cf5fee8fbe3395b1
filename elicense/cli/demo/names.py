"""Names and addresses of made-up drivers: small lists, common in China, with their pinyin."""

from __future__ import annotations

from typing import Final


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Read ``王wang 李li``: characters first, then pinyin."""
    pairs = []
    for item in text.split():
        cut = next(position for position, char in enumerate(item) if char.isascii())
        pairs.append((item[:cut], item[cut:].upper()))
    return tuple(pairs)


SURNAMES: Final = _pairs(
    "王wang 李li 张zhang 刘liu 陈chen 杨yang 黄huang 赵zhao 吴wu 周zhou 徐xu 孙sun 马ma 朱zhu 胡hu 郭guo 何he "
    "高gao 林lin 罗luo 郑zheng 梁liang 谢xie 宋song 唐tang 许xu 韩han 冯feng 邓deng 曹cao 彭peng 曾zeng 肖xiao "
    "田tian 董dong 袁yuan 潘pan 于yu 蒋jiang 蔡cai 余yu 杜du 叶ye 程cheng 苏su 魏wei 吕lyu 丁ding 任ren 沈shen "
    "姚yao 卢lu 姜jiang 崔cui 钟zhong 谭tan 陆lu 汪wang 范fan 金jin 石shi 廖liao 贾jia 夏xia 韦wei 付fu 方fang "
    "欧阳ouyang 司马sima 诸葛zhuge"
)
"""Family names, the commonest first."""

GIVEN_MALE: Final = _pairs(
    "伟wei 强qiang 磊lei 军jun 洋yang 勇yong 杰jie 涛tao 超chao 明ming 刚gang 平ping 辉hui 鹏peng 华hua 飞fei "
    "鑫xin 波bo 斌bin 宇yu 浩hao 凯kai 健jian 俊jun 帆fan 帅shuai 旭xu 宁ning 龙long 林lin 建jian 国guo 志zhi "
    "文wen 海hai 永yong 德de 庆qing 子zi 一yi"
)
"""Characters of men's given names."""

GIVEN_FEMALE: Final = _pairs(
    "芳fang 娜na 敏min 静jing 丽li 艳yan 娟juan 霞xia 秀xiu 燕yan 玲ling 桂gui 英ying 梅mei 红hong 云yun 洁jie "
    "婷ting 雪xue 慧hui 琳lin 晶jing 倩qian 莉li 萍ping 颖ying 欣xin 怡yi 佳jia 雨yu 梦meng 思si 晓xiao 小xiao "
    "春chun 美mei 淑shu 文wen 玉yu 兰lan"
)
"""Characters of women's given names."""

DOTTED_NAMES: Final = (
    ("阿依努尔·买买提", "MAIMAITI", "AYINUER"),
    ("古丽娜尔·艾山", "AISHAN", "GULINAER"),
    ("吐尔逊·阿不都拉", "ABUDULA", "TUERXUN"),
    ("扎西·多吉", "DUOJI", "ZHAXI"),
)
"""Names with a separating dot."""

FOREIGN_NAMES: Final = (
    ("JOHN SMITH", "SMITH", "JOHN", "US"),
    ("KIM MINJUN", "KIM", "MINJUN", "KR"),
    ("ANNA SCHMIDT", "SCHMIDT", "ANNA", "DE"),
    ("TANAKA HIROSHI", "TANAKA", "HIROSHI", "JP"),
)
"""Foreign nationals: full, family and given name, nationality."""

ROADS: Final = (
    "人民路",
    "中山路",
    "解放路",
    "建设路",
    "和平路",
    "文化路",
    "新华路",
    "长江路",
    "友谊路",
    "学院路",
    "滨河路",
    "朝阳街",
)
"""Streets that nearly every city has."""

_COUNTIES: Final = """
1100 0101 0102 0105 0106 0107 0108 0109 0111 0112 0113 0114 0115 0116 0117 0118 0119
1200 0101 0102 0103 0104 0105 0106 0110 0111 0112 0113 0114 0115 0116 0117 0118 0119
1301 02 04 05 07 08 09 10 11 21 23 25 26 27 28 29 30 81 83 84
2201 02 03 04 05 06 12 13 22 82 83 84
2306 02 03 04 05 06 21 22 23 24
3100 0101 0104 0105 0106 0107 0109 0110 0112 0113 0114 0115 0116 0117 0118 0120 0151
3202 05 06 11 13 14 81 82
3205 05 06 07 08 09 81 82 83 85
3209 02 03 04 21 22 23 24 25 81
3212 02 03 04 81 82 83
3302 03 05 06 11 12 13 25 26 81 82
3304 02 11 21 24 81 82 83
3601 02 03 04 11 12 13 21 23 24
3701 02 03 04 05 12 13 14 15 16 17 24 26
3702 02 03 11 12 13 14 15 81 83 85
4301 02 03 04 05 11 12 21 81 82
4401 03 04 05 06 11 12 13 14 15 17 18
4403 03 04 05 06 07 08 09 10 11
4501 02 03 05 07 08 09 10 23 24 25 26 81
5000 0101 0102 0103 0104 0106 0107 0108 0109 0110 0111 0112 0113 0114 0115 0116 0117 0118 0119 0120
5101 04 05 06 07 08 12 13 14 15 16 17 18 21 29 31 81 82 83 84 85
5103 02 03 04 11 21 22
5107 03 04 05 22 23 25 26 27 81
5113 02 03 04 21 22 23 24 25 81
5201 02 03 11 12 13 15 21 22 23 81
5301 02 03 11 12 13 14 15 24 25 26 27 28 29 81
6101 02 03 04 11 12 13 14 15 16 17 18 22 24
6401 04 05 06 21 22 81
"""

_FIRST_DISTRICTS: Final = ("02", "03")


def county_codes(city: int) -> tuple[str, ...]:
    """Return codes of districts and counties of a city (GB/T 2260), six digits each.

    The cities of the first two steps of the rollout have theirs; any other city gets the
    codes that first districts usually have.
    """
    prefix = f"{city // 100}"
    for line in _COUNTIES.strip().splitlines():
        head, *ends = line.split()
        if head == prefix:
            return tuple(head[: 6 - len(end)] + end for end in ends)
    return tuple(prefix + end for end in _FIRST_DISTRICTS)
